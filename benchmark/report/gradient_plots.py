"""How gradients reach the layers: ``results/plots/<experiment>-gradients-<section>``, at the start and the end.

A line a row: the Euclidean norm of each layer's gradient in the first and in the last step of training, the
geometric mean over seeds and their range. A structure that lets gradients through has a level line.
"""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from benchmark.ledger import Record
from benchmark.report.figures import BAND_OPACITY, line_styles, write_section_figures
from benchmark.report.layer_order import layer_order
from benchmark.report.sections import Section, data_label
from benchmark.specs import Experiment

PANEL = (4.0, 2.6)  # inches
LEGEND_LINE = 0.2  # inches
LEGEND_COLUMNS = 3
MOMENTS = {"start": "first step", "end": "last step"}


def write_gradients(experiment: Experiment, results: Path) -> list[Path]:
    """A figure for each section whose runs recorded gradients: a line of panels for each data set.

    Raises:
        UserError: no finished run, a damaged record, or runs that must not share a plot.
    """
    return write_section_figures(experiment, results, "gradients", _by_dataset, _figure)


def layer_norms(records: list[Record], moment: str) -> np.ndarray:
    """[runs, layers], the stem first, at the ``start`` or the ``end``; runs that recorded none are left out."""
    kept = [norms for record in records if (norms := record.result.get("gradient_norms"))]
    complete = [norms for norms in kept if all(moment in layer for layer in norms.values())]
    return np.array([[norms[name][moment] for name in sorted(norms, key=layer_order)] for norms in complete])


def _by_dataset(section: Section) -> dict[str, dict[str, dict[str, np.ndarray]]]:
    """What ``_norms`` finds; data sets without any are left out."""
    return {dataset: norms for dataset in section.datasets if (norms := _norms(section, dataset))}


def _norms(section: Section, dataset: str) -> dict[str, dict[str, np.ndarray]]:
    """By row and moment, [runs, layers]; rows without any are left out."""
    rows = {
        row: {moment: layer_norms(section.of(row, dataset, "done"), moment) for moment in MOMENTS}
        for row in section.rows
    }
    return {row: norms for row, norms in rows.items() if any(values.size for values in norms.values())}


def _figure(section: Section, found: dict[str, dict[str, dict[str, np.ndarray]]]) -> Figure:
    rows = [row for row in section.rows if any(row in norms for norms in found.values())]
    styles = dict(zip(rows, line_styles(), strict=False))
    legend = LEGEND_LINE * (1 - (-len(rows) // LEGEND_COLUMNS))
    size = (PANEL[0] * len(MOMENTS), PANEL[1] * len(found) + legend + 0.3)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(found), len(MOMENTS), squeeze=False, sharey="row")
    for line, (dataset, norms) in zip(axes, found.items(), strict=True):
        for ax, (moment, title) in zip(line, MOMENTS.items(), strict=True):
            for row, values in norms.items():
                _draw(ax, values[moment], *styles[row])
            ax.set(title=f"{data_label(dataset)}, {title}", xlabel="layer", yscale="log")
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        line[0].set_ylabel("norm of the gradient")
    handles = [Line2D([], [], color=colour, linestyle=dash) for colour, dash in styles.values()]
    labels = [section.label(row) for row in rows]
    figure.legend(handles, labels, loc="outside lower center", ncols=LEGEND_COLUMNS)
    return figure


def _draw(ax: Axes, values: np.ndarray, colour: str, dash: object) -> None:
    positive = np.where(values > 0, values, np.nan)
    if not np.isfinite(positive).any():
        return
    layers = np.arange(values.shape[1]) + 1
    ax.plot(layers, np.exp(np.log(positive).mean(axis=0)), color=colour, linestyle=dash)
    if len(values) > 1:
        ax.fill_between(layers, positive.min(axis=0), positive.max(axis=0), color=colour, alpha=BAND_OPACITY, lw=0)
