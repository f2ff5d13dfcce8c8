"""What was run, on what: the page's tables over all runs."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from benchmark.ledger import STATUSES, Record
from benchmark.report.layout import NOTHING, Column, Grid, Text
from benchmark.report.numbers import number
from benchmark.report.page.records import Group
from benchmark.report.page.values import commit, mapping, plural, versions
from benchmark.report.sections import UNTABULATED

HOUR = 3600


def totals(groups: Sequence[Group]) -> str:
    """E.g. ``12 runs of 2 experiments: 10 done, 2 failed; 3.1 hours.``"""
    records = _records(groups)
    counts = {status: sum(group.counts[status] for group in groups) for status in STATUSES}
    shown = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    return (
        f"{plural(len(records), 'run')} of {plural(len(groups), 'experiment')}: {shown}; {_hours(records)} hours."
    )


def overview_grid(groups: Iterable[Group]) -> Grid:
    """A line an experiment: what it asks for and how its runs ended."""
    names = ("experiment", "profiles", "data sets", "rows", "seeds", *STATUSES, "hours")
    lines = [
        [
            group.experiment.name,
            _unique(r.cell.profile for r in group.records),
            _unique(r.cell.dataset for r in group.records),
            str(len({r.cell.row for r in group.records})),
            str(len({r.seed for r in group.records})),
            *map(str, group.counts.values()),
            _hours(group.records),
        ]
        for group in groups
    ]
    return _grid("Experiments", names, lines, texts=3)


def environment_grid(groups: Sequence[Group]) -> Grid:
    """A line for each device, precision, commit and set of versions that runs share."""
    names = ("device", "precision", "commit", "versions", "runs")
    found = Counter(
        (
            r.device,
            str(r.result.get("precision") or NOTHING),
            commit(r),
            versions(r),
        )
        for r in _records(groups)
    )
    return _grid(
        "Devices, commits and versions", names, [[*key, str(n)] for key, n in sorted(found.items())], texts=4
    )


def mixture(groups: Sequence[Group]) -> str:
    """How many devices, precisions, commits and sets of versions the tables mix."""
    records = [r for r in _records(groups) if r.status == "done" and r.cell.profile != UNTABULATED]
    kinds: dict[str, Callable[[Record], str]] = {
        "devices": lambda r: r.device,
        "precisions": lambda r: str(r.result.get("precision")),
        "commits": commit,
        "sets of versions": versions,
    }
    counts = {name: len({read(r) for r in records}) for name, read in kinds.items()}
    mixed = ", ".join(f"{count} {name}" for name, count in counts.items() if count > 1)
    if not mixed:
        return "All runs in the tables share device, precision, commit and versions."
    return f"The runs in the tables mix {mixed}."


def data_grid(groups: Sequence[Group]) -> Grid:
    """A line for each copy of the data that a run read."""
    names = ("data", "source", "checksum", "runs")
    data = [mapping(r.result.get("data")) for r in _records(groups)]
    found = Counter(
        tuple(str(d.get(name) or NOTHING) for name in ("name", "source", "checksum")) for d in data if d
    )
    return _grid("Data", names, [[*key, str(n)] for key, n in sorted(found.items())], texts=3)


def _grid(title: str, names: Sequence[str], lines: Iterable[Sequence[str]], texts: int) -> Grid:
    """The first ``texts`` columns hold words, the others numbers."""
    columns = tuple(Column("", name, is_text=i < texts) for i, name in enumerate(names))
    return Grid(title, "", columns, tuple(tuple(map(Text, line)) for line in lines), ())


def _records(groups: Iterable[Group]) -> list[Record]:
    return [record for group in groups for record in group.records]


def _hours(records: Iterable[Record]) -> str:
    return f"{sum(number(r.result.get('seconds')) or 0 for r in records) / HOUR:.2f}"


def _unique(values: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(values))
