"""Which experiments have records, and which of them have a table."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmark.errors import UserError
from benchmark.ledger import STATUSES, Record, read_records
from benchmark.report.sections import UNTABULATED
from benchmark.specs import Experiment


@dataclass(frozen=True)
class Group:
    """An experiment and all its records, at least one: smoke runs and failures too."""

    experiment: Experiment
    records: tuple[Record, ...]

    @property
    def is_tabulated(self) -> bool:
        """Whether a run is done that is no smoke run, of a row that the report shows."""
        return any(
            r.status == "done" and r.cell.profile != UNTABULATED and self.experiment.tabulates(r.cell.row)
            for r in self.records
        )

    @property
    def counts(self) -> dict[str, int]:
        """Runs by status; all statuses, in a fixed order."""
        found = Counter(r.status for r in self.records)
        return {status: found[status] for status in STATUSES}

    @property
    def reason(self) -> str:
        """Why it has no table, e.g. ``2 smoke runs, 1 failed``."""
        smoke = sum(r.cell.profile == UNTABULATED for r in self.records)
        others = [r for r in self.records if r.cell.profile != UNTABULATED]
        added = sum(not self.experiment.tabulates(r.cell.row) for r in others)
        counts = Counter(r.status for r in others if self.experiment.tabulates(r.cell.row))
        parts = [f"{smoke} {UNTABULATED} run{'s' * (smoke != 1)}"] if smoke else []
        parts += [f"{added} of added rows"] if added else []
        return ", ".join([*parts, *(f"{counts[status]} {status}" for status in STATUSES if counts[status])])


def read_groups(experiments: Iterable[Experiment], results: Path) -> list[Group]:
    """The experiments that have records, in the order given.

    Raises:
        UserError: no results directory, no experiment with a run that is done, or a damaged record.
    """
    results = Path(results)
    if not results.exists():
        raise UserError(f"results directory {results} does not exist")
    if not (results / "runs").is_dir():
        raise UserError(f"{results} is no results directory: it has no folder of runs{_advice()}")
    found = [(e, tuple(read_records(results, e.name))) for e in experiments]
    groups = [Group(experiment, records) for experiment, records in found if records]
    if not any(group.is_tabulated for group in groups):
        there = "; ".join(f"{group.experiment.name}: {group.reason}" for group in groups)
        hint = f" ({there})" if there else ""
        raise UserError(f"no finished runs under {results / 'runs'}{hint}{_advice()}")
    return groups


def unknown_experiments(groups: Iterable[Group], results: Path) -> list[str]:
    """Folders of records whose experiment this version does not know."""
    known = {group.experiment.name for group in groups}
    return sorted({path.parent.parent.name for path in Path(results).glob("runs/*/*/result.json")} - known)


def _advice() -> str:
    return "; run `python -m benchmark run quickstart` first"
