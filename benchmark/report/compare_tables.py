"""A comparison of two sets of results as text for the terminal and as a csv table."""

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd

from benchmark.errors import UserError
from benchmark.ledger import Record, write_atomically
from benchmark.report.compare import Change, ComparedSection, Side
from benchmark.report.layout import NOTHING, Column, Grid, Text, difference_text, make_grid, signed, summary_text
from benchmark.report.markdown import to_markdown
from benchmark.report.notes import CHECKSUM_DIGITS, in_words, test_set_note, value_text
from benchmark.report.sections import Section, data_label, test_images
from benchmark.report.statistics import CONFIDENCE, PairedDifference
from benchmark.report.tables import rounded

SIZES = {"parameters": "Parameters", "multiply_adds": "Multiply-adds"}
ALL_ROWS = "all rows"


def comparison_text(title: str, sections: Iterable[ComparedSection]) -> str:
    """The tables and their notes. ``title`` says what A and B are."""
    return to_markdown(title, [_grid(section) for section in sections])


def comparison_frame(sections: Iterable[ComparedSection]) -> pd.DataFrame:
    """One line a row and data set.

    Errors are percent, differences percentage points, ratios B / A; what there is no number for is missing.
    """
    rows = [_numbers(section, change) for section in sections for change in section.changes]
    return rounded(pd.DataFrame(rows)).astype({f"{side} {name}": "Int64" for side in "AB" for name in SIZES})


def write_comparison(sections: Iterable[ComparedSection], path: Path) -> None:
    """Write ``comparison_frame`` as csv.

    Raises:
        UserError: something else is at ``path``, such as a record, which would be lost, or it cannot be written.
    """
    table = comparison_frame(sections).to_csv(index=False, lineterminator="\n")
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is not a file, and is left as it is; give another name")
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            heading = file.readline()
    except FileNotFoundError:
        heading = ""
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error
    if heading and not table.startswith(heading):
        raise UserError(f"{path} is not a table of compare --csv, and is left as it is; give another name")
    write_atomically(path, table)


def _grid(section: ComparedSection) -> Grid:
    columns = [
        _column("model", section, lambda c: c.label, is_text=True),
        _column("data", section, lambda c: data_label(c.dataset), is_text=True),
        _column("A", section, lambda c: _side_text(c.a)),
        _column("B", section, lambda c: _side_text(c.b)),
        _column("B − A", section, lambda c: difference_text(c.difference), is_bold=lambda c: c.is_significant),
        _column("verdict on B", section, lambda c: c.verdict, is_text=True),
        _column("images/s B/A", section, lambda c: _ratio(c.speed)),
        _column("memory B/A", section, lambda c: _ratio(c.memory)),
    ]
    return make_grid(section.section, columns, _notes(section))


def _column(
    name: str,
    section: ComparedSection,
    text: Callable[[Change], str],
    is_text: bool = False,
    is_bold: Callable[[Change], bool] = lambda change: False,
) -> tuple[Column, list[Text]]:
    return Column("", name, is_text), [Text(text(change), is_bold(change)) for change in section.changes]


def _side_text(side: Side) -> str:
    if side.records and not side.done and not side.diverged:
        return "not done"
    return summary_text(side.summary, side.diverged)


def _ratio(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.2f}"


def _notes(section: ComparedSection) -> list[str]:
    return [
        _verdicts(section),
        *_reading(section),
        *_p_values(section),
        *_same_ids(section),
        *_seeds(section),
        *_fields(section),
        *_sizes(section),
        *_test_sets(section),
        *_costs(section),
        *_measured(section),
    ]


def _verdicts(section: ComparedSection) -> str:
    counts = Counter(change.verdict for change in section.changes)
    return f"B: {'; '.join(f'{verdict} ({count})' for verdict, count in counts.items())}."


def _reading(section: ComparedSection) -> list[str]:
    if not any(change.difference for change in section.changes):
        return []
    paired = [c for c in section.changes if isinstance(c.difference, PairedDifference)]
    unpaired = [c for c in section.changes if c.difference and c not in paired]
    how = "paired by shared seeds" if paired else "of means over other seeds"
    notes = [
        "Last epoch's test error in percent, mean ± standard deviation (number of seeds); B − A in percentage "
        f"points, {how} [{CONFIDENCE * 100:g} % t interval]: negative means that B is better. Bold, better and "
        "worse: it stands after Holm's correction over all comparisons of the table."
    ]
    if paired and unpaired:
        notes.append(f"Not paired, for want of two shared seeds (Welch's interval): {_places(unpaired)}.")
    return notes


def _p_values(section: ComparedSection) -> list[str]:
    values = [
        f"{_place(c)} {c.difference.p:.2g} ({c.adjusted_p:.2g})"
        for c in section.changes
        if c.adjusted_p is not None
    ]
    return [f"p of the differences (after Holm's correction): {'; '.join(values)}."] if values else []


def _same_ids(section: ComparedSection) -> list[str]:
    """What became of the runs that were asked for in the same words on both sides."""
    same = sum(len(change.same_id) for change in section.changes)
    if not same:
        return []
    unequal = [(c, seed) for c in section.changes for seed in c.same_id if seed not in c.equal]
    notes = [
        f"{same} runs have the same id (network, data, recipe and seed) on both sides; {same - len(unequal)} of "
        "them are equal to the bit in test error and loss."
    ]
    if unequal:
        moved = [f"{_place(c)}, seed {seed} ({signed(c.b.errors[seed] - c.a.errors[seed])})" for c, seed in unequal]
        notes.append(f"The same id, another result (code, versions or machine): {'; '.join(moved)}.")
    return notes


def _seeds(section: ComparedSection) -> list[str]:
    notes = []
    for side, other, name in (("a", "b", "A"), ("b", "a", "B")):
        alone: dict[tuple[int, ...], list[Change]] = {}
        for change in section.changes:
            seeds = getattr(change, side).done.keys() - getattr(change, other).done.keys()
            if seeds and getattr(change, other).done:
                alone.setdefault(tuple(sorted(seeds)), []).append(change)
        notes += [f"Seeds {_list(seeds)} only in {name}: {_places(changes)}." for seeds, changes in alone.items()]
    return notes


def _fields(section: ComparedSection) -> list[str]:
    """Fields of network, data and recipe that differ, those of the same rows together."""
    both = [c for c in section.changes if c.a.records and c.b.records]
    where: dict[str, list[Change]] = {}
    for change in both:
        for f in change.field_changes:
            text = f"{f.part}: {in_words(f.field)} {_field(f.before)} → {_field(f.after)}"
            where.setdefault(text, []).append(change)
    by_rows: dict[str, list[str]] = {}
    for text, changes in where.items():
        by_rows.setdefault(ALL_ROWS if len(changes) == len(both) else _places(changes), []).append(text)
    return [f"What differs in {places}: {'; '.join(texts)}." for places, texts in by_rows.items()]


def _field(value: Any) -> str:
    text = "none" if value in (None, "", {}) else value_text(value)
    return text[:CHECKSUM_DIGITS] if text.startswith("sha256:") else text


def _sizes(section: ComparedSection) -> list[str]:
    notes = []
    for name, title in SIZES.items():
        moved = [
            f"{_place(c)} {c.a.size(name):,} → {c.b.size(name):,}"
            for c in section.changes
            if c.a.done and c.b.done and c.a.size(name) != c.b.size(name)
        ]
        notes += [f"{title}: {'; '.join(moved)}."] if moved else []
    return notes


def _test_sets(section: ComparedSection) -> list[str]:
    notes = []
    for dataset in dict.fromkeys(change.dataset for change in section.changes):
        changes = [c for c in section.changes if c.dataset == dataset and c.difference]
        records = [r for c in changes for side in (c.a, c.b) for r in side.done.values()]
        counts = {test_images(record) for record in records} - {None}
        if len(counts) == 1:
            error = median(side.summary.mean for c in changes for side in (c.a, c.b))
            notes.append(test_set_note(dataset, error, counts.pop()))
    return notes


def _costs(section: ComparedSection) -> list[str]:
    compared = [c for c in section.changes if c.difference]
    if not compared:
        return []
    notes = []
    if any(c.speed or c.memory for c in compared):
        notes.append(
            "images/s and memory: B over A, of the fastest run and of the least peak (on a CPU the whole "
            "process's, earlier runs included)."
        )
    apart = [c for c in compared if c.speed is None]
    if apart:
        notes.append(f"No cost, since device, threads or precision differ or are unknown: {_places(apart)}.")
    return notes


def _measured(section: ComparedSection) -> list[str]:
    """With which code, versions and device each side was measured; the last two only where they differ."""
    sides = {"A": _done(section.a), "B": _done(section.b)}
    commits = {name: _unique(commit for r in records for commit in r.commits) for name, records in sides.items()}
    texts = [f"Commits: {_both(commits)}."]
    environments = {
        "Device": {name: _unique(r.device for r in records) for name, records in sides.items()},
        "Versions": {name: _unique(v for r in records for v in _versions(r)) for name, records in sides.items()},
    }
    for title, values in environments.items():
        for name, other in (("A", "B"), ("B", "A")):
            alone = [value for value in values[name] if value not in values[other]]
            if alone and values[other]:
                texts.append(f"{title} only in {name}: {'; '.join(alone)}.")
    return texts


def _versions(record: Record) -> list[str]:
    found = (part.get("versions") or {} for part in record.parts)
    return [f"{package} {number}" for versions in found for package, number in versions.items()]


def _numbers(section: ComparedSection, change: Change) -> dict[str, Any]:
    difference = change.difference
    paired = isinstance(difference, PairedDifference)
    sides = {
        f"{name} {column}": value
        for name, side in (("A", change.a), ("B", change.b))
        for column, value in _side_numbers(side).items()
    }
    return {
        "experiment": section.section.experiment.name,
        "profile": section.section.profile,
        "data": section.section.data,
        "row": change.row,
        "model": change.label,
        "dataset": data_label(change.dataset),
        **sides,
        "difference": difference.mean if difference else None,
        "difference low": difference.low if difference else None,
        "difference high": difference.high if difference else None,
        "method": ("paired" if paired else "Welch") if difference else None,
        "shared seeds": len(change.shared),
        "p": difference.p if difference else None,
        "p Holm": change.adjusted_p,
        "verdict": change.verdict,
        "same run id": len(change.same_id),
        "equal to the bit": len(change.equal),
        "images per second ratio": change.speed,
        "memory ratio": change.memory,
        "changed": "; ".join(f"{f.part} {f.field}" for f in change.field_changes) or None,
    }


def _side_numbers(side: Side) -> dict[str, Any]:
    summary = side.summary
    return {
        "mean": summary.mean if summary else None,
        "std": summary.std if summary else None,
        "n": summary.n if summary else 0,
        "diverged": side.diverged,
        "parameters": side.size("parameters"),
        "multiply_adds": side.size("multiply_adds"),
        "commits": " ".join(_unique(commit for r in side.done.values() for commit in r.commits)) or None,
    }


def _done(section: Section | None) -> list[Record]:
    return section.of(status="done") if section else []


def _place(change: Change) -> str:
    return f"{change.label} on {data_label(change.dataset)}"


def _places(changes: Iterable[Change]) -> str:
    return ", ".join(map(_place, changes))


def _both(values: dict[str, list[str]]) -> str:
    return "; ".join(f"{name} {_list(some) or NOTHING}" for name, some in values.items())


def _unique(values: Iterable[str]) -> list[str]:
    return sorted(set(values))


def _list(values: Iterable[Any]) -> str:
    return ", ".join(map(str, values))
