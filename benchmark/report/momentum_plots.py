"""The figure of a momentum experiment, ``plots/<experiment>-<section>``: distance, error and loss over beta."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmark.report.figures import BAND_OPACITY, DASHES, OKABE_ITO, STYLE, use_log_scale, write_figure
from benchmark.report.hypothesis import DISTANCE, QUANTITIES, Expected
from benchmark.report.momentum import Sweep, read_momentum
from benchmark.report.sections import Section
from benchmark.report.statistics import Summary
from benchmark.specs import Experiment

PANEL = (3.6, 2.4)  # inches
LEAST_LEFT = 1e-3


def write_momentum_plots(experiment: Experiment, results: Path, expected: Mapping[float, Expected]) -> list[Path]:
    """Write the figure of each section and return their paths.

    Raises:
        UserError: as ``read_momentum``, or the folder cannot be written.
    """
    paths = []
    with rc_context(STYLE):
        for section, sweeps, name in read_momentum(experiment, results):
            figure = draw_momentum(section, sweeps, expected)
            paths += write_figure(figure, Path(results) / "plots" / name)
    return paths


def draw_momentum(section: Section, sweeps: list[Sweep], expected: Mapping[float, Expected]) -> Figure:
    """A row for each family, a line for each depth: heavy ball's distance, and each quantity of the networks."""
    families = list(dict.fromkeys(sweep.family for sweep in sweeps))
    across = 1 + len(QUANTITIES)
    figure = Figure(figsize=(PANEL[0] * across, PANEL[1] * len(families) + 0.6), layout="constrained")
    axes = figure.subplots(len(families), across, squeeze=False)
    for row, family in zip(axes, families, strict=True):
        members = [sweep for sweep in sweeps if sweep.family == family]
        _draw_expected(row[0], members, expected)
        for ax, quantity in zip(row[1:], QUANTITIES, strict=True):
            _draw_results(ax, members, quantity)
        for ax in row:
            for sweep, colour in zip(members, OKABE_ITO, strict=False):
                beta = sweep.predicted_beta(expected)
                ax.axvline(beta, color=colour, linestyle=DASHES[2], lw=1)
            ax.set(title=f"{family}: {ax.get_title()}", xlabel="beta")
    caption = (
        "heavy ball's distance to the minimum and, dashed, how much an untrained network tells images apart; means "
        "with 95 % intervals\nover seeds, which end at the axis where they reach zero; dotted: the beta with "
        "which heavy ball ends nearest"
    )
    figure.suptitle(f"{section.experiment.title}\n{caption}", fontsize=STYLE["font.size"])
    return figure


def _draw_expected(ax: Axes, sweeps: list[Sweep], expected: Mapping[float, Expected]) -> None:
    """Distances, and dashed the images left, down to where nothing can be told from them."""
    values: list[float] = []
    for sweep, colour in zip(sweeps, OKABE_ITO, strict=False):
        near, images = sweep.measure(DISTANCE, expected), -sweep.measure("images left", expected)
        ax.plot(near.index, near, color=colour, lw=1.2, label=f"{sweep.depth} layers")
        values += near.tolist()
        if images.notna().all():
            ax.plot(images.index, images, color=colour, lw=1.2, linestyle=DASHES[1])
            values += images.tolist()
    ax.set_ylim(max(LEAST_LEFT, min(values) * 0.9), max(values) * 1.1)
    use_log_scale(ax)
    ax.legend()
    ax.set_title("distance, images left (dashed)")


def _draw_results(ax: Axes, sweeps: list[Sweep], quantity: str) -> None:
    means: list[float] = []
    for sweep, colour in zip(sweeps, OKABE_ITO, strict=False):
        found = {beta: s for beta in sorted(sweep.records) if (s := sweep.summary(quantity, beta))}
        middle, reach = (np.array([of(s) for s in found.values()]) for of in (_mean, _reach))
        ax.plot([*found], middle, color=colour, lw=1.2)
        ax.fill_between([*found], middle - reach, middle + reach, color=colour, alpha=BAND_OPACITY, lw=0)
        means += middle.tolist()
    if means and min(means) > 0:
        ax.set_ylim(min(means) / 2, max(means) * 2)
        use_log_scale(ax)
    ax.set_title(quantity)


def _mean(summary: Summary) -> float:
    return summary.mean


def _reach(summary: Summary) -> float:
    return summary.half_width or 0.0
