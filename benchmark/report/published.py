"""Published numbers: ``<paper>/<experiment>.csv`` with model, dataset, augmented, metric, value, provenance."""

import csv
from dataclasses import dataclass
from pathlib import Path

from benchmark.errors import UserError
from benchmark.specs import DataSpec

TITLES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "imagenet": "ImageNet"}
METRICS = {"error": "top1", "top1_error": "top1", "top5_error": "top5"}
"""Names in the files, and what they are."""


@dataclass(frozen=True)
class Published:
    """A published error in percent and where the number was checked."""

    value: float
    provenance: str

    @property
    def verified(self) -> bool:
        return self.provenance.startswith("verified")


class PublishedNumbers:
    """The published errors of an experiment; empty if there is no file of them.

    Raises:
        UserError: the file is not a table of published numbers.
    """

    def __init__(self, paper: Path | None, experiment: str) -> None:
        path = Path(paper) / f"{experiment}.csv" if paper else None
        self._numbers = _read(path) if path and path.exists() else {}

    def find(self, model: str | None, data: DataSpec, metric: str = "top1") -> Published | None:
        """The number of a model (``Row.published``) on a data set, if one was published; top1 or top5."""
        return self._numbers.get((model, TITLES.get(data.name, data.name), data.augment, metric))


def _read(path: Path) -> dict[tuple[str, str, bool, str], Published]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return {
                (line["model"], line["dataset"], line["augmented"] == "yes", METRICS[line["metric"]]): Published(
                    float(line["value"]), line["provenance"]
                )
                for line in csv.DictReader(file)
                if line["metric"] in METRICS
            }
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is not a table of published numbers: {error!r}") from error
