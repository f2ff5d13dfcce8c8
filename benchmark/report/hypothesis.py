"""Does a faster algorithm give a better structure? What the records say, by method and depth, and the correlation.

The rows of a hypothesis experiment are ``<family>-<method>-<depth>``.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from benchmark.ledger import Record
from benchmark.report.sections import Section, read_sections
from benchmark.report.statistics import RankCorrelation, Summary, rank_correlation, summarize
from benchmark.specs import Experiment

Quantity = Callable[[Record], float]


def _test_error(record: Record) -> float:
    return record.result["test_error"]


def _train_loss(record: Record) -> float:
    return record.metrics[-1]["train_loss"]


ERROR = "test error (%)"
QUANTITIES: dict[str, tuple[Quantity, int]] = {
    ERROR: (_test_error, 2),
    "training loss": (_train_loss, 3),
}
"""Each with the decimals that it is shown with. Both are of the last epoch."""


@dataclass(frozen=True)
class Expected:
    """What is expected of a method: its speed on a quadratic, and what its networks have left of their images.

    Attributes:
        factor: the limit of the factor by which one layer shortens the distance to the minimum.
        distances: of 0, 1, ... layers, over that of none.
        images_left: before training (``theory.images_left``), by family and depth of feedforward networks.
    """

    factor: float
    distances: Sequence[float]
    images_left: Mapping[tuple[str, int], float] = field(default_factory=dict)


def place_of(row: str) -> tuple[str, str, int]:
    """Family, method and depth."""
    family, method, depth = row.split("-")
    return family, method, int(depth)


def steps(family: str, depth: int) -> int:
    """Of the method in such a network: one a layer, or one a block, anew in each of the three stages."""
    return (depth - 2) // 6 if family == "convolutional" else depth


DISTANCE = "distance at the depth"
MEASURES: dict[str, Callable[[Expected, str, int], float]] = {
    "limiting factor": lambda expected, family, depth: expected.factor,
    DISTANCE: lambda expected, family, depth: expected.distances[steps(family, depth)],
    "images left": lambda expected, family, depth: -expected.images_left.get((family, depth), math.nan),
}
"""What may predict a method's result in networks of a family and depth, smaller is better: the limiting factor, the
distance after the network's number of steps, or images left, negated. NaN: not for these networks."""


@dataclass(frozen=True)
class Family:
    """Networks of one kind: their records by method and depth. ``methods`` are ordered from slow to fast."""

    name: str
    methods: tuple[str, ...]
    depths: tuple[int, ...]
    records: Mapping[tuple[str, int], list[Record]]

    def done(self, method: str, depth: int) -> list[Record]:
        """Finished runs, without those that diverged."""
        return [r for r in self.records.get((method, depth), []) if r.status == "done"]

    def diverged(self, method: str, depth: int) -> int:
        """How many runs diverged."""
        return sum(r.status == "diverged" for r in self.records.get((method, depth), []))

    def summary(self, method: str, depth: int, quantity: str) -> Summary | None:
        """Mean and spread over seeds; None without a finished run."""
        values = [QUANTITIES[quantity][0](record) for record in self.done(method, depth)]
        return summarize(values) if values else None


def read_hypothesis(
    experiment: Experiment, results: Path, expected: Mapping[str, Expected]
) -> Iterator[tuple[Section, list[Family], str]]:
    """Each section with its families and the name of its files.

    Args:
        experiment: rows ``<family>-<method>-<depth>``.
        results: the results directory.
        expected: by method (``reports.expected_of_methods``).

    Raises:
        UserError: no finished run, a damaged record, or runs that must not share a table.
    """
    for section in read_sections(experiment, Path(results)):
        yield section, read_families(section, expected), f"{experiment.name}-{section.slug}"


def read_families(section: Section, expected: Mapping[str, Expected]) -> list[Family]:
    """The section's records by family, method and depth."""
    records: dict[str, dict[tuple[str, int], list[Record]]] = {}
    for record in section.records:
        family, method, depth = place_of(record.cell.row)
        records.setdefault(family, {}).setdefault((method, depth), []).append(record)
    order = {row.key.split("-")[0]: None for row in section.experiment.rows}
    return [
        Family(
            name,
            tuple(sorted({m for m, _ in records[name]}, key=lambda method: (-expected[method].factor, method))),
            tuple(sorted({depth for _, depth in records[name]})),
            records[name],
        )
        for name in order
        if name in records
    ]


def correlations(
    family: Family, expected: Mapping[str, Expected], measure: str, quantity: str
) -> dict[str, RankCorrelation | None]:
    """Rank correlation over methods of ``measure`` and mean ``quantity``, by depth; "all" is of mean ranks.

    Positive: faster methods (or more images left) go with smaller quantities. Methods without a finished run
    at a depth are left out there; None where fewer than two remain or all agree.
    """
    slowness, results = {}, {}
    for depth in family.depths:
        found = {m: s.mean for m in family.methods if (s := family.summary(m, depth, quantity))}
        results[depth] = pd.Series(found, dtype=float)
        measured = {m: MEASURES[measure](expected[m], family.name, depth) for m in found}
        slowness[depth] = pd.Series(measured, dtype=float).dropna()
    ranks = [pd.DataFrame(side).dropna().rank().mean(axis=1) for side in (slowness, results)]
    return {
        **{str(depth): _correlate(slowness[depth], results[depth]) for depth in family.depths},
        "all": _correlate(*ranks),
    }


def _correlate(slowness: pd.Series, results: pd.Series) -> RankCorrelation | None:
    if min(slowness.nunique(), results.nunique()) < 2:
        return None
    return rank_correlation(slowness.tolist(), results[slowness.index].tolist())
