"""Learning curves made from run records: ``results/plots/<experiment>-curves-<section>.{svg,png}``.

The same records and the same matplotlib give the same bytes.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from benchmark.ledger import Record
from benchmark.report.figures import BAND_OPACITY, STYLE, line_styles, write_figure
from benchmark.report.sections import Section, data_label, read_sections
from benchmark.specs import Experiment

PANEL = (4.2, 3.0)  # inches
LEGEND_LINE = 0.2  # inches
LEGEND_COLUMNS = 2  # of entries under each panel
PANELS_PER_LINE = 2


def write_learning_curves(experiment: Experiment, results: Path) -> list[Path]:
    """Plot test (or validation) error in percent against epochs: a line a row, its mean over seeds and their range.

    Returns:
        The paths: an SVG and a PNG for each section of the table with a finished run that has metrics, with a panel
        for each data set.

    Raises:
        UserError: no records, a damaged one, or runs that must not share a plot.
    """
    paths = []
    for section in filter(_panels, read_sections(experiment, Path(results))):
        stem = Path(results) / "plots" / f"{experiment.name}-curves-{section.slug}"
        with rc_context(STYLE):
            figure = _figure(section)
            paths += write_figure(figure, stem)
    return paths


def curve(records: Iterable[Record]) -> tuple[np.ndarray, np.ndarray]:
    """Epochs trained, [E], and the evaluation error in percent of each run after them, [runs, E].

    Epochs that a run lacks are left out for all.
    """
    runs = [{int(row["epoch"]): row["eval_error"] for row in r.metrics} for r in records]
    epochs = sorted(set.intersection(*(set(run) for run in runs)))
    return np.array(epochs) + 1, np.array([[run[epoch] for epoch in epochs] for run in runs])


def _panels(section: Section) -> list[str]:
    return [d for d in section.datasets if any(r.metrics for r in section.of(dataset=d, status="done"))]


def _figure(section: Section) -> Figure:
    panels = _panels(section)
    across = min(len(panels), PANELS_PER_LINE)
    down = -(-len(panels) // across)
    legend_lines = -(-len(section.rows) // (LEGEND_COLUMNS * across)) + 1
    width, height = PANEL[0] * across, PANEL[1] * down + LEGEND_LINE * legend_lines
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False).ravel()
    styles = dict(zip(section.rows, line_styles(), strict=False))
    lines = {}
    for ax, dataset in zip(axes, panels, strict=False):
        lines |= _draw_panel(ax, section, dataset, styles)
    for ax in list(axes)[len(panels) :]:
        ax.set_visible(False)
    ordered = [row for row in section.rows if row in lines]
    figure.legend(
        [lines[row] for row in ordered],
        [section.label(row) for row in ordered],
        loc="outside lower center",
        ncols=min(LEGEND_COLUMNS * across, len(ordered)),
    )
    figure.suptitle(section.title, fontsize=STYLE["axes.titlesize"])
    return figure


def _draw_panel(ax: Axes, section: Section, dataset: str, styles: dict) -> dict:
    lines, smallest = {}, np.inf
    for row, (colour, dash) in styles.items():
        records = [r for r in section.of(row, dataset, "done") if r.metrics]
        if not records:
            continue
        epochs, errors = curve(records)
        (lines[row],) = ax.plot(epochs, errors.mean(axis=0), color=colour, linestyle=dash)
        if len(records) > 1:
            ax.fill_between(epochs, errors.min(axis=0), errors.max(axis=0), color=colour, alpha=BAND_OPACITY, lw=0)
        smallest = min(smallest, errors.min())
    images = "validation" if section.held_out else "test"
    ax.set(title=data_label(dataset), xlabel="epochs trained", ylabel=f"{images} error (%)")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if smallest > 0:
        _use_log_scale(ax)
    return lines


def _use_log_scale(ax: Axes) -> None:
    """Late epochs differ by little: equal ratios of errors get equal heights."""
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
