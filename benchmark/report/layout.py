"""The lines of a section as text in cells, the same for every format."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from benchmark.duration import format_duration
from benchmark.report.costs import Cost
from benchmark.report.lines import Line
from benchmark.report.published import Published
from benchmark.report.sections import Section, data_label
from benchmark.report.statistics import PairedDifference, Summary, UnpairedDifference

NOTHING = "—"
MINUS = "−"
UNVERIFIED = "†"
ELSEWHERE = "‡"
UNITS = ((1e9, 1e9, "G"), (1e5, 1e6, "M"), (0, 1e3, "k"))  # from this count on, in this unit


@dataclass(frozen=True)
class Column:
    """A column under its data set's name (``group``), or alone with an empty one."""

    group: str
    name: str
    is_text: bool = False


@dataclass(frozen=True)
class Text:
    text: str
    bold: bool = False


@dataclass(frozen=True)
class Grid:
    """A table ready to be drawn: as many cells in each row as there are columns."""

    title: str
    slug: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Text, ...], ...]
    notes: tuple[str, ...]


def section_grid(section: Section, lines: list[Line], notes: list[str]) -> Grid:
    """The grid of a section."""
    columns: list[tuple[Column, list[Text]]] = [_column("", "model", lines, lambda line: line.label, is_text=True)]
    if any(entry.difference for line in lines for entry in line.entries.values()):
        columns.append(_column("", "baseline", lines, lambda line: _baseline(section, line), is_text=True))
    for dataset in lines[0].entries:
        columns += _dataset_columns(dataset, lines)
    costs: dict[str, Callable[[Cost], str]] = {
        "images/s": lambda cost: three_digits(cost.images_per_second),
        "memory": lambda cost: gigabytes(cost.peak_memory_bytes),
        "time": lambda cost: duration(cost.hours),
        "Wh": lambda cost: three_digits(cost.kilowatt_hours and 1000 * cost.kilowatt_hours),
    }
    columns += [
        _column("", "parameters", lines, lambda line: magnitude(line.parameters)),
        _column("", "multiply-adds", lines, lambda line: magnitude(line.multiply_adds)),
        *(
            _column("", name, lines, partial(_cost_text, text, section.usual_device))
            for name, text in costs.items()
        ),
    ]
    return make_grid(section, columns, notes)


def make_grid(section: Section, columns: Iterable[tuple[Column, list[Text]]], notes: Iterable[str]) -> Grid:
    """A grid of the columns that say something."""
    shown = [(column, cells) for column, cells in columns if any(cell.text != NOTHING for cell in cells)]
    return Grid(
        title=section.title,
        slug=section.slug,
        columns=tuple(column for column, _ in shown),
        rows=tuple(zip(*(cells for _, cells in shown), strict=True)),
        notes=tuple(notes),
    )


def _cost_text(text: Callable[[Cost], str], usual: str | None, line: Line) -> str:
    """Marked if it was not measured on the section's usual device."""
    shown = text(line.cost)
    return shown if shown == NOTHING or line.cost.device == usual else shown + ELSEWHERE


def summary_text(error: Summary | None, diverged: int = 0) -> str:
    """``5.32 ± 0.10 (3)``: mean, standard deviation and number of seeds; ``diverged`` if no run lived."""
    if error is None:
        return "diverged" if diverged else NOTHING
    spread = "" if error.std is None else f" ± {error.std:.2f}"
    return f"{error.mean:.2f}{spread} ({error.n})"


def difference_text(difference: PairedDifference | UnpairedDifference | None) -> str:
    """``−0.31 [−0.80, +0.18]``, or the mean and why there is no interval: ``−0.31 (1 seed)``."""
    if difference is None:
        return NOTHING
    if difference.low is None:
        return f"{signed(difference.mean)} ({difference.reason})"
    return f"{signed(difference.mean)} [{signed(difference.low)}, {signed(difference.high)}]"


def published_text(published: Published | None) -> str:
    """A published error, marked unless it was verified."""
    if published is None:
        return NOTHING
    return f"{published.value:.2f}{'' if published.verified else UNVERIFIED}"


def signed(value: float, decimals: int = 2) -> str:
    """With a true minus sign; what rounds to zero has no sign."""
    text = f"{value:+.{decimals}f}"
    return text.replace("-", MINUS) if text.strip("+-0.") else text[1:]


def magnitude(count: int | None) -> str:
    """``0.27 M``, ``40.8 M``, ``3.66 G``."""
    if count is None:
        return NOTHING
    scale, unit = next((scale, unit) for start, scale, unit in UNITS if count >= start)
    return f"{three_digits(count / scale)} {unit}"


def gigabytes(count: int | None) -> str:
    """``1.12 GB``."""
    return NOTHING if count is None else f"{three_digits(count / 1e9)} GB"


def duration(hours: float | None) -> str:
    """``16 min``, ``1.6 h``."""
    return NOTHING if hours is None else format_duration(3600 * hours)


def three_digits(value: float | None) -> str:
    """Three significant digits, and never more than two decimals."""
    if value is None:
        return NOTHING
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}"


def _column(
    group: str, name: str, lines: list[Line], text: Callable[[Line], str], is_text: bool = False
) -> tuple[Column, list[Text]]:
    return Column(group, name, is_text), [Text(text(line)) for line in lines]


def _dataset_columns(dataset: str, lines: list[Line]) -> list[tuple[Column, list[Text]]]:
    entries = [line.entries[dataset] for line in lines]
    group = "top-1" if any(e.top5 for e in entries) else data_label(dataset)
    return [
        (Column(group, "error"), [Text(summary_text(e.error, e.diverged)) for e in entries]),
        (Column(group, "validation"), [Text(summary_text(e.validation)) for e in entries]),
        (Column(group, "published"), [Text(published_text(e.published)) for e in entries]),
        (Column(group, "gap"), [Text(NOTHING if e.gap is None else signed(e.gap)) for e in entries]),
        (
            Column(group, "difference"),
            [Text(difference_text(e.difference), e.is_significant) for e in entries],
        ),
        (Column("top-5", "error"), [Text(summary_text(e.top5)) for e in entries]),
        (Column("top-5", "published"), [Text(published_text(e.published_top5)) for e in entries]),
        (
            Column("top-5", "gap"),
            [Text(NOTHING if e.top5_gap is None else signed(e.top5_gap)) for e in entries],
        ),
    ]


def _baseline(section: Section, line: Line) -> str:
    return section.label(line.baseline) if line.baseline else NOTHING
