"""Learning curves made from run records: ``results/plots/<experiment>-curves-<section>.{svg,png}``.

The same records and the same matplotlib give the same bytes.
"""

from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from textwrap import fill
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from benchmark.ledger import Record
from benchmark.report.families import RowFamily, beside, families
from benchmark.report.figures import BAND_OPACITY, OKABE_ITO, line_styles, use_log_scale, write_section_figures
from benchmark.report.sections import Section, data_label
from benchmark.specs import Experiment

PANEL = (4.0, 3.0)  # inches
LEGEND_SIZE, LEGEND_LINE, LEGEND_WIDTH = 7.5, 0.16, 55  # points, inches, characters
LINES_TOGETHER = len(OKABE_ITO)
"""In one panel; more could not be told apart by their colours."""


class Panel(NamedTuple):
    """A data set's curves of these rows of the table."""

    dataset: str
    family: RowFamily


def write_learning_curves(experiment: Experiment, results: Path) -> list[Path]:
    """Plot test (or validation) error in percent against epochs: a line a row, its mean over seeds and their range.

    Returns:
        The paths: an SVG and a PNG for each section of the table with a finished run that has metrics. Each data
        set has a panel, or one for each baseline and what is compared with it where the lines are many.

    Raises:
        UserError: no records, a damaged one, or runs that must not share a plot.
    """
    caption = "mean over seeds and, shaded, their range"
    return write_section_figures(experiment, results, "curves", _panels, _figure, caption)


def curve(records: Iterable[Record]) -> tuple[np.ndarray, np.ndarray]:
    """Epochs trained, [E], and the evaluation error in percent of each run after them, [runs, E].

    Epochs that a run lacks are left out for all.
    """
    runs = [{int(row["epoch"]): row["eval_error"] for row in r.metrics} for r in records]
    epochs = sorted(set.intersection(*(set(run) for run in runs)))
    return np.array(epochs) + 1, np.array([[run[epoch] for epoch in epochs] for run in runs])


def _panels(section: Section) -> list[list[Panel]]:
    """Those of each data set that has curves."""
    drawn = {d: [row for row in section.rows if _runs(section, row, d)] for d in section.datasets}
    return [[Panel(d, family) for family in _together(section, rows)] for d, rows in drawn.items() if rows]


def _runs(section: Section, row: str, dataset: str) -> list[Record]:
    return [record for record in section.of(row, dataset, "done") if record.metrics]


def _together(section: Section, rows: list[str]) -> list[RowFamily]:
    """All rows, or if they are many each baseline with its rows."""
    return [RowFamily(None, rows)] if len(rows) <= LINES_TOGETHER else families(section, rows)


def _in_lines(panels: list[list[Panel]]) -> list[list[Panel]]:
    """Data sets with one panel each two by two; else each begins a line."""
    most = max(map(len, panels))
    groups = [list(chain.from_iterable(panels))] if most == 1 else panels
    across = 2 if most == 1 else most if most <= 4 else 3
    return [group[i : i + across] for group in groups for i in range(0, len(group), across)]


def _figure(section: Section, panels: list[list[Panel]]) -> Figure:
    lines = _in_lines(panels)
    across = max(map(len, lines))
    legends = LEGEND_LINE * sum(max(_legend_lines(section, panel) for panel in line) for line in lines)
    figure = Figure(figsize=(PANEL[0] * across, PANEL[1] * len(lines) + legends), layout="constrained")
    grid = figure.subplots(len(lines), across, squeeze=False)
    first: dict[str, Axes] = {}
    for axes, line in zip(grid, lines, strict=True):
        for ax in axes[len(line) :]:
            ax.set_visible(False)
        for ax, panel in zip(axes, line, strict=False):
            if (beside := first.setdefault(panel.dataset, ax)) is not ax:
                ax.sharey(beside)
            _draw_panel(ax, section, panel)
    for dataset, ax in first.items():
        if all(row["eval_error"] for record in section.of(None, dataset, "done") for row in record.metrics):
            use_log_scale(ax)
    return figure


def _name(section: Section, row: str) -> str:
    return fill(section.label(row), LEGEND_WIDTH)


def _legend_lines(section: Section, panel: Panel) -> int:
    return sum(_name(section, row).count("\n") + 1 for row in panel.family.rows)


def _draw_panel(ax: Axes, section: Section, panel: Panel) -> None:
    for row, (colour, dash) in zip(panel.family.rows, line_styles(), strict=False):
        epochs, errors = curve(runs := _runs(section, row, panel.dataset))
        ax.plot(epochs, errors.mean(axis=0), color=colour, linestyle=dash, label=_name(section, row))
        if len(runs) > 1:
            ax.fill_between(epochs, errors.min(axis=0), errors.max(axis=0), color=colour, alpha=BAND_OPACITY, lw=0)
    images = "validation" if section.held_out else "test"
    title = data_label(panel.dataset) + beside(section, panel.family)
    ax.set(title=title, xlabel="epochs trained", ylabel=f"{images} error (%)")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(loc="upper left", bbox_to_anchor=(-0.1, -0.21), fontsize=LEGEND_SIZE, borderpad=0)
