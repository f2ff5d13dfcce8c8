"""Tables made from run records: ``results/tables/<experiment>.{csv,md,tex,html}``.

The same records give the same bytes. Profiles and copies of the data stand in sections of their own.
"""

import difflib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark.errors import UserError
from benchmark.ledger import Record, write_atomically
from benchmark.report.html import to_html
from benchmark.report.latex import to_latex
from benchmark.report.layout import Grid, section_grid
from benchmark.report.lines import Entry, Line, section_lines
from benchmark.report.markdown import to_markdown
from benchmark.report.notes import section_notes
from benchmark.report.published import PublishedNumbers
from benchmark.report.sections import Section, data_label, data_name, in_order, read_runs, read_sections
from benchmark.specs import Experiment

MEASURED = (
    "status",
    "test_error",
    "test_top5_error",
    "test_loss",
    "best_eval_error",
    "parameters",
    "multiply_adds",
    "epochs",
    "seconds",
    "seconds_per_epoch",
    "images_per_second",
    "peak_memory_bytes",
    "joules",
    "device",
    "threads",
    "precision",
    "reason",
)
COSTS = ("seconds_per_epoch", "images_per_second", "peak_memory_bytes", "hours", "kilowatt_hours")
COUNTS = ("parameters", "multiply_adds", "peak_memory_bytes")
VALIDATION = ("validation mean", "validation std")
TOP5 = ("top-5 mean", "top-5 std", "top-5 published", "top-5 published provenance", "top-5 gap")
DECIMALS = 4  # of an error in percent: far below one image of any test set, far above rounding
SIGNIFICANT = 6  # digits of what may be far smaller than an error
SMALL = (" p", " p Holm", *(name for name in COSTS if name not in COUNTS))
OF_A_SECTION = ("profile", "data", "held out")


def load_results(results: Path | str = "results", experiment: str = "cifar") -> pd.DataFrame:
    """Every run of an experiment, smoke runs and failures too: one line a run, in a fixed order.

    Errors are percent, times are seconds, memory is bytes; what a run did not measure is missing.
    Several devices or commits of one run are joined by " and ".

    Raises:
        UserError: no such results, or a damaged record (names its path).
    """
    return pd.DataFrame([_run(record) for record in read_runs(Path(results), experiment)])


def write_tables(experiment: Experiment, results: Path, paper: Path | None) -> list[Path]:
    """Write the four tables of an experiment and return their paths.

    Args:
        experiment: gives rows their order, labels and baselines.
        results: the results directory; its ``runs`` are read, its ``tables`` written.
        paper: the folder of published numbers, or None to show none.

    Raises:
        UserError: nothing to tabulate, a damaged record, or runs that must not share a table.
    """
    tables = _tables(experiment, Path(results), paper)
    grids = _grids(tables)
    texts = {
        "csv": _frame(experiment, tables).to_csv(index=False, lineterminator="\n"),
        "md": to_markdown(experiment.title, grids),
        "tex": to_latex(experiment.title, grids),
        "html": to_html(experiment.title, experiment.name, grids),
    }
    paths = []
    for suffix, text in texts.items():
        paths.append(Path(results) / "tables" / f"{experiment.name}.{suffix}")
        write_atomically(paths[-1], text)
    return paths


def read_grids(experiment: Experiment, results: Path, paper: Path | None) -> list[Grid]:
    """The tables, one a section, ready to be drawn. Raises as ``write_tables`` does."""
    return _grids(_tables(experiment, Path(results), paper))


def console_text(
    experiment: Experiment, results: Path, paper: Path | None, sort: str | None = None, descending: bool = False
) -> str:
    """The tables and their notes for the terminal, each ordered by a column of the csv table if asked for.

    Raises:
        UserError: as ``write_tables``, or there is no column ``sort``.
    """
    tables = _tables(experiment, Path(results), paper)
    if sort is None:
        return to_markdown(experiment.title, _grids(tables))
    columns = [name for name in _frame(experiment, tables).columns if name not in OF_A_SECTION]
    if sort not in columns:
        nearest = difflib.get_close_matches(sort, columns, n=len(columns), cutoff=0)
        raise UserError(f"no column {sort!r} to sort by; valid, the closest first: {', '.join(nearest)}")
    return to_markdown(experiment.title, _grids(tables, lambda lines: _sorted(lines, sort, descending)))


def _sorted(lines: list[Line], column: str, descending: bool) -> list[Line]:
    """By the column, lines that have no value there last; equal ones keep their order."""
    have = [line for line in lines if not _is_missing(_numbers(line).get(column))]
    ordered = sorted(have, key=lambda line: _numbers(line)[column], reverse=descending)
    return ordered + [line for line in lines if line not in have]


def _is_missing(value: Any) -> bool:
    return value is None or value != value


def _tables(experiment: Experiment, results: Path, paper: Path | None) -> list[tuple[Section, list[Line]]]:
    numbers = PublishedNumbers(paper, experiment.name)
    return [(section, section_lines(section, numbers)) for section in read_sections(experiment, results)]


def _grids(
    tables: list[tuple[Section, list[Line]]], order: Callable[[list[Line]], list[Line]] = lambda lines: lines
) -> list[Grid]:
    return [section_grid(section, order(lines), section_notes(section, lines)) for section, lines in tables]


def _frame(experiment: Experiment, tables: list[tuple[Section, list[Line]]]) -> pd.DataFrame:
    """The numbers of all sections, wide; a column that one section lacks is empty there."""
    rows = [
        dict(zip(OF_A_SECTION, (section.profile, section.data, section.held_out), strict=True)) | _numbers(line)
        for section, lines in tables
        for line in lines
    ]
    shown = [dataset for _, lines in tables for dataset in lines[0].entries]
    held_out = any(section.held_out for section, _ in tables)
    entries = [
        name
        for dataset in in_order(shown, experiment.datasets)
        for name in _entry_columns(dataset, held_out, experiment.top5)
    ]
    names = ["profile", "data", *(["held out"] if held_out else []), "row", "model", "baseline"]
    sizes = ["parameters", "multiply_adds", *COSTS, "cost device"]
    frame = rounded(pd.DataFrame(rows)[[*names, *entries, *sizes]])
    counts = [
        name for name in frame.columns if name in COUNTS or name.endswith((" n", " diverged", " seeds needed"))
    ]
    return frame.astype(dict.fromkeys(counts, "Int64"))


def rounded(frame: pd.DataFrame) -> pd.DataFrame:
    """Errors and differences to ``DECIMALS``; p values and costs, often far smaller, to ``SIGNIFICANT`` digits."""
    small = [name for name in frame.columns if f" {name}".endswith(SMALL)]
    return frame.round({name: DECIMALS for name in frame.columns if name not in small}).assign(
        **{name: frame[name].map(_significant) for name in small}
    )


def _significant(value: Any) -> Any:
    return value if _is_missing(value) else float(f"{value:.{SIGNIFICANT}g}")


def _numbers(line: Line) -> dict[str, Any]:
    entries = [item for dataset, entry in line.entries.items() for item in _entry(dataset, entry).items()]
    return {
        "row": line.row,
        "model": line.label,
        "baseline": line.baseline,
        **dict(entries),
        "parameters": line.parameters,
        "multiply_adds": line.multiply_adds,
        **{name: getattr(line.cost, name) for name in COSTS},
        "cost device": line.cost.device,
    }


def _entry(dataset: str, entry: Entry) -> dict[str, Any]:
    """Columns of a data set, e.g. ``C10+ error mean``; errors in percent, differences in percentage points."""
    values = [
        entry.error.mean if entry.error else None,
        entry.error.std if entry.error else None,
        entry.error.n if entry.error else 0,
        entry.diverged,
        entry.published.value if entry.published else None,
        entry.published.provenance if entry.published else None,
        entry.gap,
        entry.difference.mean if entry.difference else None,
        entry.difference.low if entry.difference else None,
        entry.difference.high if entry.difference else None,
        entry.difference.n if entry.difference else 0,
        entry.difference.p if entry.difference else None,
        entry.adjusted_p,
        entry.seeds_needed,
        entry.validation.mean if entry.validation else None,
        entry.validation.std if entry.validation else None,
        entry.top5.mean if entry.top5 else None,
        entry.top5.std if entry.top5 else None,
        entry.published_top5.value if entry.published_top5 else None,
        entry.published_top5.provenance if entry.published_top5 else None,
        entry.top5_gap,
    ]
    return dict(zip(_entry_columns(dataset, held_out=True, top5=True), values, strict=True))


def _entry_columns(dataset: str, held_out: bool, top5: bool) -> list[str]:
    """Those of the validation error and of the top-5 error only where they are asked for."""
    names = (
        "error mean",
        "error std",
        "n",
        "diverged",
        "published",
        "published provenance",
        "gap",
        "difference",
        "difference low",
        "difference high",
        "difference n",
        "difference p",
        "difference p Holm",
        "seeds needed",
        *(VALIDATION if held_out else ()),
        *(TOP5 if top5 else ()),
    )
    return [f"{data_label(dataset)} {name}" for name in names]


def _run(record: Record) -> dict[str, Any]:
    result, cell = record.result, record.cell
    commits = record.of_parts(lambda part: _git(part, "commit") or "unknown")
    dirty = [_git(part, "dirty") for part in record.parts]
    return {
        "row": cell.row,
        "network": cell.network.name,
        "dataset": cell.dataset,
        "data": data_name(record),
        "data_source": (result.get("data") or {}).get("source"),
        "profile": cell.profile,
        "seed": record.seed,
        "held_out": cell.data.validation,
        "validation_error": record.validation_error,
        **{name: result.get(name) for name in MEASURED},
        "device": record.device,
        "commit": None if commits == ("unknown",) else " and ".join(commits),
        "dirty": None if None in dirty else any(dirty),
        "run_id": result["run_id"],
    }


def _git(part: Mapping[str, Any], name: str) -> Any:
    return (part.get("git") or {}).get(name)
