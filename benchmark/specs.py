"""What is run, as plain data: frozen dataclasses that know nothing of torch.

An experiment is a table: rows (networks) times data sets. A row on a data set is a cell; a cell and a seed are
a run. The run id is a hash of everything that decides the run's outcome, so a changed recipe, network or data
set is a new run and never overwrites an old one.
"""

import dataclasses
import fnmatch
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

SCHEMA_VERSION = 1
DEVICE_SETTINGS = ("precision", "channels_last", "compile", "loop")
"""Of a recipe: how it is computed, not what is."""

ADDED_TO_RECIPE = {"loop": "lightning", "image_size": 0, "devices": 1, "sync_batchnorm": False}
ADDED_TO_NETWORK = {"definition": 1}
ADDED_TO_DATA = {"resized": False}

LONGEST_NAME = 255
"""Bytes of a folder's name."""

Options = Mapping[str, Any]


@dataclass(frozen=True)
class NetworkSpec:
    """A registered network and what differs from its defaults, e.g. ``{"reading": "fixed_point"}``.

    ``definition`` counts what the code has made of this name and options; it is filled in from the registry before
    a run id is taken.
    """

    name: str
    options: Options = field(default_factory=dict)
    definition: int = 1

    @property
    def draws_masks_twice(self) -> bool:
        """Whether it computes layers with dropout again, so that CUDA graphs cannot replay it."""
        return bool(self.options.get("memory_efficient") and self.options.get("dropout"))


@dataclass(frozen=True)
class DataSpec:
    """A data set as the network sees it.

    ``checksum`` identifies the bytes; it is filled in from the data itself before a run id is taken.
    ``validation`` counts training images held out; 0 means that the test set alone is evaluated.
    ``resized``: photographs are read from a cache in which they are resized beforehand.
    """

    name: str
    augment: bool = False
    validation: int = 0
    source: str = ""
    checksum: str = ""
    resized: bool = False


@dataclass(frozen=True)
class RecipeSpec:
    """How a network is trained. ``"auto"`` values are resolved for the device before a run id is taken.

    ``schedule``: ``"step"`` divides the rate by 10 at ``milestones`` (fractions of the epochs);
    ``"one_cycle"`` is torch's OneCycleLR with ``learning_rate`` as its peak, stepped every batch.
    ``limit_batches`` > 0 cuts every epoch to that many batches (the smoke profile).
    ``loop``: ``"lightning"``, or ``"reference"`` for the usual loop in plain PyTorch that ours is compared with.
    ``image_size``: pixels of a side to which photographs are cropped; 0 if images have a size of their own.
    ``devices`` is how many, over all machines, share each batch. It decides the outcome, as batch norms normalise
    with a device's own part of the batch unless ``sync_batchnorm`` is set, and dropout draws for each device.
    """

    epochs: int = 300
    batch_size: int = 64
    learning_rate: float = 0.1
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 1e-4
    schedule: str = "step"
    milestones: tuple[float, ...] = (0.5, 0.75)
    precision: str = "auto"
    channels_last: bool = True
    compile: str | bool = "auto"
    limit_batches: int = 0
    loop: str = "lightning"
    image_size: int = 0
    devices: int = 1
    sync_batchnorm: bool = False


@dataclass(frozen=True)
class Row:
    """One line of a table: a network, what it is compared with, and which data sets need other options.

    ``options_without_augmentation`` are added to the network's options on data sets that are not augmented.
    ``recipe`` holds fields of the recipe that differ from the profile's.
    ``extra`` rows join only when asked for by name (``--only``).
    """

    key: str
    label: str
    network: NetworkSpec
    baseline: str | None = None
    published: str | None = None
    options_without_augmentation: Options = field(default_factory=dict)
    recipe: Options = field(default_factory=dict)
    extra: bool = False


@dataclass(frozen=True)
class Cell:
    """A row on a data set under a recipe."""

    experiment: str
    row: str
    dataset: str
    profile: str
    network: NetworkSpec
    data: DataSpec
    recipe: RecipeSpec

    @property
    def name(self) -> str:
        """Row and data set, as ``--only`` sees them: ``cifar_resnet20@cifar10+``."""
        return f"{self.row}@{self.dataset}"


@dataclass(frozen=True)
class Experiment:
    """A table as data: rows times data sets, a recipe for each profile and the seeds it asks for.

    ``report`` says what is made of the records: ``"comparison"`` (the table of rows and data sets and its plots),
    ``"hypothesis"`` (methods against depth, and the rank correlation) or ``"momentum"`` (results over beta).
    ``top5`` tabulates the top-5 error as well.
    """

    name: str
    title: str
    rows: tuple[Row, ...]
    datasets: Mapping[str, DataSpec]
    profiles: Mapping[str, RecipeSpec]
    default_profile: str
    seeds: tuple[int, ...] = (0, 1, 2)
    report: str = "comparison"
    top5: bool = False

    def row(self, key: str) -> Row | None:
        """The row with this key, or None for a row that was added on the command line."""
        return next((row for row in self.rows if row.key == key), None)

    def tabulates(self, key: str) -> bool:
        """Whether the report shows the row: one that was added on the command line joins a comparison alone."""
        return self.report == "comparison" or self.row(key) is not None

    def label(self, key: str) -> str:
        """What tables call the row."""
        row = self.row(key)
        return row.label if row else key

    def baseline(self, key: str) -> str | None:
        """The row that it is compared with; None if it is a baseline itself or unknown."""
        row = self.row(key)
        return row.baseline if row else None

    def cells(
        self,
        profile: str,
        datasets: Iterable[str] | None = None,
        only: Iterable[str] = (),
        rows: Iterable[Row] | None = None,
    ) -> list[Cell]:
        """Cells of ``profile`` on ``datasets``; ``only`` are globs over ``row`` or ``row@dataset``.

        Without ``only`` the extra rows are left out.
        """
        only = tuple(only)
        cells = []
        for row in self.rows if rows is None else rows:
            for dataset in self.datasets if datasets is None else datasets:
                data = self.datasets[dataset]
                options = dict(row.network.options)
                if not data.augment:
                    options |= row.options_without_augmentation
                cell = Cell(
                    experiment=self.name,
                    row=row.key,
                    dataset=dataset,
                    profile=profile,
                    network=NetworkSpec(row.network.name, options),
                    data=data,
                    recipe=dataclasses.replace(self.profiles[profile], **row.recipe),
                )
                asked = any(matches(name, glob) for name in (cell.row, cell.name) for glob in only)
                if asked or (not only and not row.extra):
                    cells.append(cell)
        return cells


def matches(name: str, glob: str) -> bool:
    """Whether a name is meant: also by itself, if it has brackets (``widths=[8,16]``)."""
    return name == glob or fnmatch.fnmatchcase(name, glob)


def to_dict(spec: Any) -> dict[str, Any]:
    """A spec as plain JSON values (tuples become lists)."""
    return json.loads(json.dumps(dataclasses.asdict(spec)))


def cell_from_dict(values: Mapping[str, Any]) -> Cell:
    """The inverse of ``to_dict`` for a cell.

    Raises:
        TypeError, KeyError: a field is missing or unknown.
    """
    recipe = dict(values["recipe"])
    recipe["milestones"] = tuple(recipe["milestones"])
    return Cell(
        **{k: v for k, v in values.items() if k not in ("network", "data", "recipe")},
        network=NetworkSpec(**values["network"]),
        data=DataSpec(**values["data"]),
        recipe=RecipeSpec(**recipe),
    )


def run_id(cell: Cell, seed: int) -> str:
    """``<row>-<data set>-s<seed>-<hash>``: the hash covers network, data, recipe, profile and seed.

    Two spellings of the same mapping give the same id; a mere change of commit keeps it. Fields that came after the
    first records are left out at their default, so that those keep their ids.
    """
    network, data, recipe = to_dict(cell.network), to_dict(cell.data), to_dict(cell.recipe)
    for fields, added in ((network, ADDED_TO_NETWORK), (data, ADDED_TO_DATA), (recipe, ADDED_TO_RECIPE)):
        for name, default in added.items():
            if fields[name] == default:
                del fields[name]
    decisive = {
        "schema": SCHEMA_VERSION,
        "network": network,
        "data": data,
        "recipe": recipe,
        "profile": cell.profile,
        "seed": seed,
    }
    digest = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:10]
    slug = "".join(c if c.isalnum() or c in "_+" else "-" for c in f"{cell.row}-{cell.dataset}")
    end = f"-s{seed}-{digest}"
    if len((slug + end).encode()) > LONGEST_NAME:
        slug = f"{slug[: LONGEST_NAME // 8]}-{hashlib.sha256(slug.encode()).hexdigest()[:10]}"
    return slug + end
