"""Two sets of results side by side, as numbers: what changed, by how much, and whether it is beyond noise.

Runs are matched within a profile and a copy of the data, by row, data set and seed. The same run id says that
network, data, recipe and seed are the same; where ids differ, the fields that differ are named.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from benchmark.ledger import Record, read_records
from benchmark.report.lines import errors_by_seed
from benchmark.report.sections import Section, differing, in_order, make_sections
from benchmark.report.statistics import (
    CONFIDENCE,
    SAME,
    PairedDifference,
    Summary,
    UnpairedDifference,
    holm,
    paired_difference,
    summarize,
    unpaired_difference,
)
from benchmark.specs import Experiment, to_dict

PARTS = ("network", "data", "recipe")
OUTCOME = ("test_error", "test_loss")


@dataclass(frozen=True)
class Side:
    """One side's runs of a row on a data set."""

    records: tuple[Record, ...] = ()

    @property
    def done(self) -> dict[int, Record]:
        """Finished runs by seed, without those that diverged."""
        return {r.seed: r for r in self.records if r.status == "done"}

    @property
    def by_seed(self) -> dict[int, Record]:
        """A run of each seed, a finished one where there is one."""
        return {r.seed: r for r in self.records} | self.done

    @property
    def diverged(self) -> int:
        return sum(r.status == "diverged" for r in self.records)

    @property
    def errors(self) -> dict[int, float]:
        """Test error (percent) by seed."""
        return errors_by_seed(self.done.values())

    @property
    def summary(self) -> Summary | None:
        """Of the errors; None without a finished run."""
        return summarize(self.errors.values()) if self.done else None

    @property
    def trouble(self) -> str | None:
        """Why there is no error, in words; None if there is one."""
        if self.done:
            return None
        return "diverged" if self.diverged else "not done"

    def size(self, name: str) -> int | None:
        """Parameters or multiply-adds."""
        return next((record.result[name] for record in self.done.values()), None)


@dataclass(frozen=True)
class FieldChange:
    """A field of the network, the data or the recipe that is not what it was."""

    part: str
    field: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Change:
    """A row on a data set in A and in B.

    ``difference`` is B - A in percentage points, so that negative means that B is better; ``adjusted_p`` is its p
    value after Holm's correction over the comparisons of the section.
    """

    row: str
    label: str
    dataset: str
    a: Side
    b: Side
    adjusted_p: float | None = None

    @property
    def shared(self) -> list[int]:
        """Seeds that are done on both sides."""
        return sorted(self.a.done.keys() & self.b.done.keys())

    @property
    def same_id(self) -> list[int]:
        """Shared seeds of one recipe, network and data."""
        return [s for s in self.shared if self.a.done[s].result["run_id"] == self.b.done[s].result["run_id"]]

    @property
    def equal(self) -> list[int]:
        """Those of ``same_id`` whose test error and test loss are equal to the bit."""
        return [s for s in self.same_id if _outcome(self.a.done[s]) == _outcome(self.b.done[s])]

    @property
    def difference(self) -> PairedDifference | UnpairedDifference | None:
        """None if a side has no seed.

        Paired from two shared seeds on, or without an interval if a side's only seed is shared; else of the means,
        with Welch's interval where both sides have two seeds.
        """
        a, b = self.a.errors, self.b.errors
        if not a or not b:
            return None
        if len(self.shared) > 1 or (self.shared and min(len(a), len(b)) == 1):
            return paired_difference(b, a)
        return unpaired_difference([*b.values()], [*a.values()])

    @property
    def is_significant(self) -> bool:
        """Whether the difference stands after the correction."""
        return self.adjusted_p is not None and self.adjusted_p < 1 - CONFIDENCE

    @property
    def verdict(self) -> str:
        """B against A in words."""
        if not self.a.records or not self.b.records:
            return "only in B" if not self.a.records else "only in A"
        if self.a.trouble or self.b.trouble:
            return self._trouble()
        more = self.b.diverged - self.a.diverged
        fewer = f", {-more} fewer diverged in B" if more < 0 else ""
        return self._judgement() + (f", {more} more diverged in B" if more > 0 else fewer)

    def _trouble(self) -> str:
        if self.a.trouble == self.b.trouble == "diverged":
            return "diverged in both"
        if self.a.trouble and self.b.trouble:
            return "done in neither"
        return f"{self.b.trouble} in B" if self.b.trouble else f"{self.a.trouble} in A"

    def _judgement(self) -> str:
        seeds_a, seeds_b = self.a.done.keys(), self.b.done.keys()
        if self.equal and self.equal == self.shared and (seeds_a <= seeds_b or seeds_b <= seeds_a):
            extra = len(seeds_b) - len(seeds_a)
            return "same runs" + (f", {abs(extra)} more in {'B' if extra > 0 else 'A'}" if extra else "")
        if self.adjusted_p is None:
            difference = self.difference
            if difference.reason == "1 seed":
                return "too few seeds"
            return "same errors" if abs(difference.mean) < SAME else "no spread to judge by"
        if not self.is_significant:
            return "no difference beyond noise"
        return "better" if self.difference.mean < 0 else "worse"

    @property
    def field_changes(self) -> list[FieldChange]:
        """What differs in network, data and recipe, over shared seeds; between the first runs if none is shared."""
        a, b = self.a.by_seed, self.b.by_seed
        pairs = [(a[seed], b[seed]) for seed in sorted(a.keys() & b.keys())]
        if not pairs and a and b:
            pairs = [(a[min(a)], b[min(b)])]
        found: list[FieldChange] = []
        for change in (change for pair in pairs for change in _field_changes(*pair)):
            if change not in found:
                found.append(change)
        return found

    def ratio(self, name: str, best: Any) -> float | None:
        """B / A of a cost, of the ``best`` run on each side; only where device, threads and precision agree."""
        a, b = _by_environment(self.a, name), _by_environment(self.b, name)
        ratios = [best(b[key]) / best(a[key]) for key in a if key in b]
        return geometric_mean(ratios) if ratios else None

    @property
    def speed(self) -> float | None:
        """Images per second of the fastest runs, B / A: other work on the machine only slows."""
        return self.ratio("images_per_second", max)

    @property
    def memory(self) -> float | None:
        """Least peak memory, B / A."""
        return self.ratio("peak_memory_bytes", min)


@dataclass(frozen=True)
class ComparedSection:
    """A profile on a copy of the data; a side that has no such section is None."""

    a: Section | None
    b: Section | None
    changes: tuple[Change, ...]

    @property
    def section(self) -> Section:
        """Of either side, for what they share."""
        return self.b or self.a


def read_results(experiments: Iterable[Experiment], results: Path) -> dict[str, list[Section]]:
    """The sections of each experiment that has a finished run, smoke runs aside.

    Raises:
        UserError: a damaged record, or runs that differ in what they mean.
    """
    found = {e.name: make_sections(e, read_records(results, e.name)) for e in experiments}
    return {name: sections for name, sections in found.items() if sections}


def compare_sections(a: Sequence[Section], b: Sequence[Section]) -> list[ComparedSection]:
    """The sections of both sides, those of one side alone too; A's order, then B's."""
    by_key_a, by_key_b = ({(s.profile, s.copy): s for s in side} for side in (a, b))
    return [_compare(by_key_a.get(key), by_key_b.get(key)) for key in {**by_key_a, **by_key_b}]


def _compare(a: Section | None, b: Section | None) -> ComparedSection:
    sides = [section for section in (a, b) if section]
    known = sides[0].experiment
    rows = in_order((row for side in sides for row in side.rows), [row.key for row in known.rows])
    datasets = in_order((dataset for side in sides for dataset in side.datasets), known.datasets)
    changes = [
        Change(row, sides[0].label(row), dataset, _side(a, row, dataset), _side(b, row, dataset))
        for dataset in datasets
        for row in rows
        if any(section.of(row, dataset) for section in sides)
    ]
    return ComparedSection(a, b, tuple(_adjust(changes)))


def _adjust(changes: list[Change]) -> Iterator[Change]:
    p_values = [change.difference.p if change.difference else None for change in changes]
    adjusted = iter(holm([p for p in p_values if p is not None]))
    for change, p in zip(changes, p_values, strict=True):
        yield change if p is None else replace(change, adjusted_p=next(adjusted))


def _side(section: Section | None, row: str, dataset: str) -> Side:
    return Side(tuple(section.of(row, dataset)) if section else ())


def _outcome(record: Record) -> list[Any]:
    return [record.result.get(name) for name in OUTCOME]


def _field_changes(a: Record, b: Record) -> Iterator[FieldChange]:
    before, after = to_dict(a.cell), to_dict(b.cell)
    for part in PARTS:
        for field in differing(before[part], after[part]):
            yield FieldChange(part, field, before[part].get(field), after[part].get(field))


def _by_environment(side: Side, name: str) -> Mapping[tuple[Any, ...], list[float]]:
    values: dict[tuple[Any, ...], list[float]] = {}
    for record in side.done.values():
        if record.result.get(name):
            environment = (record.device, record.result.get("threads"), record.result.get("precision"))
            values.setdefault(environment, []).append(record.result[name])
    return values
