"""Chapters of the page: tables of an experiment with their plots, and what ``speed`` and ``theory`` measured."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from benchmark.errors import UserError
from benchmark.report.layout import Grid
from benchmark.report.page.markup import split_title, to_html
from benchmark.report.tables import read_grids
from benchmark.specs import Experiment

WIDE = 450  # points: a phone shows such a figure in part rather than with unreadable letters
PLAIN = " !$()*+,-./:;=?@_~"
"""What stands for itself in a drawing's address; written so it is a fifth shorter than in base64."""

CAPTIONS = {
    "curves": "Learning curves: error after each epoch, mean over seeds; the band is their range.",
    "differences": "Difference to the baseline's test error, paired by seed, with its 95 % t interval: left of "
    "zero the row is better. Blue stands after Holm's correction; a hollow point has one seed and no interval.",
    "cost": "Test error against parameters, multiply-adds and time; bars are standard deviations over seeds, the "
    "grey line is the Pareto front. Points of equal costs stand side by side.",
    "coefficients": "Coefficients that the networks learned, layer by layer (mean and range over seeds), beside "
    "the values that they started from (dotted).",
    "step_tables": "The factor with which layer k of a dense block reads the features x_j, at the start and as "
    "learned, mean over seeds. White is zero; DenseNet's are one.",
    "gradients": "Norm of each layer's gradient in the first and the last step of training, geometric mean over "
    "seeds and range.",
}
"""Of a comparison's plots, in the page's order."""

EARLIER = {
    "hypothesis-": (
        "Hypothesis, from an earlier run",
        "Made by an earlier run whose records are not in this results directory.",
        "Error and loss against depth, and error over gradient descent's against the speed of the method.",
    ),
    "momentum-": (
        "Momentum, from an earlier run",
        "Made by an earlier run whose records are not in this results directory.",
        "Heavy ball's distance to the minimum, error and loss over beta, by depth; dotted, where it ends nearest.",
    ),
    "speed-": (
        "Speed",
        "Measured by the command speed, on the devices named; no records of runs.",
        "Images per second of each loop; over ours, its ratio to the usual loop.",
    ),
    "theory-convergence": (
        "Theory: convergence",
        "Measured by the command theory.",
        "Distance to the minimum against layer, for each objective and condition number.",
    ),
    "theory-step-tables": (
        "Theory: steps",
        "Drawn by the command theory from the methods' coefficients.",
        "Each method's table of steps as a heat map, and its network: arcs from gradients to the layers they feed.",
    ),
}
"""By the start of a file's name: the chapter's title, where the files come from, and what the figure shows."""


@dataclass(frozen=True)
class Figure:
    """``source`` is the whole SVG as a data URI, so that the ids of two figures cannot meet."""

    source: str
    title: str
    caption: str
    is_wide: bool


@dataclass(frozen=True)
class Part:
    """A table under its heading: a grid with notes, or a document as safe HTML; and the figures after it.

    ``source`` is the document's path in the results directory.
    """

    title: str
    source: str
    grid: Grid | None
    document: str
    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class Chapter:
    id: str
    title: str
    origin: str
    parts: tuple[Part, ...]


def experiment_chapter(
    experiment: Experiment, results: Path, written: Sequence[Path], paper: Path | None
) -> Chapter:
    """An experiment's tables and the plots among the files ``written``.

    Raises:
        UserError: a damaged record, runs that must not share a table, or a file that cannot be read.
    """
    if experiment.report == "comparison":
        parts = [_comparison(experiment, grid, written) for grid in read_grids(experiment, results, paper)]
    else:
        caption = EARLIER[f"{experiment.report}-"][2]
        parts = [
            _document(path.stem, path, [p for p in written if p.name == f"{path.stem}.svg"], caption)
            for path in written
            if path.suffix == ".md"
        ]
    return Chapter(f"experiment-{experiment.name}", experiment.title, "", tuple(parts))


def earlier_chapters(results: Path, known: Collection[str]) -> list[Chapter]:
    """Files in ``tables`` and ``plots`` that were made from no record, except those with ``known`` stems.

    Raises:
        UserError: a file cannot be read.
    """
    chapters = []
    for start, (title, origin, caption) in EARLIER.items():
        tables = {path.stem: path for path in (Path(results) / "tables").glob(f"{start}*.md")}
        plots = {path.stem: path for path in (Path(results) / "plots").glob(f"{start}*.svg")}
        parts = [
            _document("", tables.get(stem), [plots[stem]] if stem in plots else [], caption)
            for stem in sorted((tables.keys() | plots.keys()) - set(known))
        ]
        if parts:
            chapters.append(Chapter(start.strip("-"), title, origin, tuple(parts)))
    return chapters


def _comparison(experiment: Experiment, grid: Grid, written: Sequence[Path]) -> Part:
    figures = []
    for kind, caption in CAPTIONS.items():
        name = f"{experiment.name}-{kind}-{grid.slug}.svg"
        figures += [_figure(path, f"{grid.title}: {kind}", caption) for path in written if path.name == name]
    return Part(grid.title, "", grid, "", tuple(figures))


def _document(title: str, table: Path | None, plots: Sequence[Path], caption: str) -> Part:
    """Under the document's own title if none is given; figures alone have none."""
    own, text = split_title(_read(table)) if table else ("", "")
    heading = title or own
    return Part(
        heading,
        f"tables/{table.name}" if table else "",
        None,
        to_html(text, heading, deeper=2),
        tuple(_figure(path, path.stem, caption) for path in plots),
    )


def _figure(path: Path, title: str, caption: str) -> Figure:
    text = _read(path)
    width = re.search(r'<svg[^>]* width="([\d.]+)pt"', text)
    address = f"data:image/svg+xml,{quote(' '.join(text.split()), safe=PLAIN)}"
    return Figure(address, title, caption, bool(width and float(width[1]) > WIDE))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}; remove it or make it anew") from error
