"""The figure of a momentum experiment, ``plots/<experiment>-<section>``: error and loss over beta, by depth."""

from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmark.report.figures import OKABE_ITO, STYLE, use_log_scale, write_figure
from benchmark.report.hypothesis import QUANTITIES
from benchmark.report.momentum import Distances, Sweep, read_momentum, theorys_beta
from benchmark.report.sections import Section
from benchmark.specs import Experiment

PANEL = (4.2, 2.4)  # inches


def write_momentum_plots(experiment: Experiment, results: Path, distances: Distances) -> list[Path]:
    """Write the figure of each section and return their paths.

    Raises:
        UserError: as ``read_momentum``, or the folder cannot be written.
    """
    paths = []
    with rc_context(STYLE):
        for section, sweeps, name in read_momentum(experiment, results):
            figure = draw_momentum(section, sweeps, distances)
            paths += write_figure(figure, Path(results) / "plots" / name)
    return paths


def draw_momentum(section: Section, sweeps: list[Sweep], distances: Distances) -> Figure:
    """A row for each family, a panel for each quantity, a line for each depth."""
    families = list(dict.fromkeys(sweep.family for sweep in sweeps))
    across = len(QUANTITIES)
    figure = Figure(figsize=(PANEL[0] * across, PANEL[1] * len(families) + 0.6), layout="constrained")
    axes = figure.subplots(len(families), across, squeeze=False)
    for row, family in zip(axes, families, strict=True):
        members = [sweep for sweep in sweeps if sweep.family == family]
        for ax, quantity in zip(row, QUANTITIES, strict=True):
            for sweep, colour in zip(members, OKABE_ITO, strict=False):
                _draw(ax, sweep, quantity, distances, colour)
            ax.set(title=f"{family}: {quantity}", xlabel="beta")
            if ax.lines:
                use_log_scale(ax)
                ax.legend()
    caption = "means with 95 % intervals over seeds; dotted: the beta with which heavy ball ends nearest"
    figure.suptitle(f"{section.experiment.title}\n{caption}", fontsize=STYLE["font.size"])
    return figure


def _draw(ax: Axes, sweep: Sweep, quantity: str, distances: Distances, colour: str) -> None:
    near = sweep.distances(distances)
    found = [(beta, s) for beta in sweep.betas if (s := sweep.summary(quantity, beta)) and s.mean > 0]
    if not found:
        return
    betas, means = [beta for beta, _ in found], np.array([s.mean for _, s in found])
    reach = np.array([s.half_width or 0 for _, s in found])
    below = np.minimum(reach, means * 0.9)  # a logarithmic axis has no zero
    label = f"{sweep.depth} layers"
    ax.errorbar(betas, means, [below, reach], color=colour, lw=1.2, capsize=2, elinewidth=0.7, label=label)
    ax.axvline(theorys_beta(near), color=colour, linestyle=(0, (1, 1)), lw=1)
