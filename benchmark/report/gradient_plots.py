"""How gradients reach the layers: ``results/plots/<experiment>-gradients-<section>``, at the start and the end.

A line a row: the Euclidean norm of each layer's gradient in the first and in the last step of training, the
geometric mean over seeds and their range. A structure that lets gradients through has a level line.
"""

from pathlib import Path
from textwrap import fill
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from benchmark.ledger import Record
from benchmark.report.families import RowFamily, families
from benchmark.report.figures import BAND_OPACITY, line_styles, write_section_figures
from benchmark.report.layer_order import layer_order
from benchmark.report.sections import Section, data_label
from benchmark.specs import Experiment

PANEL = (3.4, 2.3)  # inches
LEGEND_INCHES = 2.2
LEGEND_WIDTH = 28  # characters
MOMENTS = {"start": "first step", "end": "last step"}


class Panel(NamedTuple):
    """A data set's rows, and by row and moment what their runs recorded, [runs, layers]."""

    dataset: str
    family: RowFamily
    norms: dict[str, dict[str, np.ndarray]]


def write_gradients(experiment: Experiment, results: Path) -> list[Path]:
    """A figure for each section whose runs recorded gradients: a line of panels for each data set and baseline.

    Raises:
        UserError: no finished run, a damaged record, or runs that must not share a plot.
    """
    caption = "norm of each layer's gradient: geometric mean over seeds and, shaded, their range"
    return write_section_figures(experiment, results, "gradients", _panels, _figure, caption)


def layer_norms(records: list[Record], moment: str) -> np.ndarray:
    """[runs, layers], the stem first, at the ``start`` or the ``end``; runs that recorded none are left out."""
    kept = [norms for record in records if (norms := record.result.get("gradient_norms"))]
    complete = [norms for norms in kept if all(moment in layer for layer in norms.values())]
    return np.array([[norms[name][moment] for name in sorted(norms, key=layer_order)] for norms in complete])


def _panels(section: Section) -> list[Panel]:
    """A baseline's rows of each data set with what they recorded; rows without any are left out."""
    return [
        Panel(dataset, family, norms)
        for dataset in section.datasets
        if (norms := _norms(section, dataset))
        for family in families(section, norms)
    ]


def _norms(section: Section, dataset: str) -> dict[str, dict[str, np.ndarray]]:
    """By row and moment, [runs, layers]; rows without any are left out."""
    rows = {
        row: {moment: layer_norms(section.of(row, dataset, "done"), moment) for moment in MOMENTS}
        for row in section.rows
    }
    return {row: norms for row, norms in rows.items() if any(values.size for values in norms.values())}


def _figure(section: Section, panels: list[Panel]) -> Figure:
    size = (PANEL[0] * len(MOMENTS) + LEGEND_INCHES, PANEL[1] * len(panels) + 0.4)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(panels), len(MOMENTS), squeeze=False, sharey="row")
    for line, panel in zip(axes, panels, strict=True):
        for ax, (moment, title) in zip(line, MOMENTS.items(), strict=True):
            for row, style in zip(panel.family.rows, line_styles(), strict=False):
                _draw(ax, panel.norms[row][moment], *style)
            ax.set(title=f"{data_label(panel.dataset)}, {title}", xlabel="layer", yscale="log")
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        line[0].set_ylabel("norm of the gradient")
        _add_legend(line[-1], [section.label(row) for row in panel.family.rows])
    return figure


def _add_legend(ax: Axes, labels: list[str]) -> None:
    """On the right of the panel, each name in as many lines as it needs."""
    styles = [style for _, style in zip(labels, line_styles(), strict=False)]
    handles = [Line2D([], [], color=colour, linestyle=dash) for colour, dash in styles]
    names = [fill(label, LEGEND_WIDTH) for label in labels]
    ax.legend(handles, names, loc="upper left", bbox_to_anchor=(1.02, 1.04), borderaxespad=0)


def _draw(ax: Axes, values: np.ndarray, colour: str, dash: object) -> None:
    positive = np.where(values > 0, values, np.nan)
    if not np.isfinite(positive).any():
        return
    layers = np.arange(values.shape[1]) + 1
    ax.plot(layers, np.exp(np.log(positive).mean(axis=0)), color=colour, linestyle=dash)
    if len(values) > 1:
        ax.fill_between(layers, positive.min(axis=0), positive.max(axis=0), color=colour, alpha=BAND_OPACITY, lw=0)
