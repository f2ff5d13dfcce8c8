"""The figure of a hypothesis experiment, ``plots/<experiment>-<section>``: error and loss by depth and speed."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from benchmark.report.figures import STYLE, line_styles, use_log_scale, write_figure
from benchmark.report.hypothesis import ERROR, QUANTITIES, Expected, Family, read_hypothesis
from benchmark.report.sections import Section
from benchmark.specs import Experiment

PANEL = (3.0, 2.6)  # inches


def write_hypothesis_plots(
    experiment: Experiment, results: Path, expected: Mapping[str, Expected], titles: Mapping[str, str]
) -> list[Path]:
    """Write the figure of each section and return their paths; ``titles`` are the methods'.

    Raises:
        UserError: as ``read_hypothesis``, or the folder cannot be written.
    """
    paths = []
    with rc_context(STYLE):
        for section, families, name in read_hypothesis(experiment, results, expected):
            figure = draw_hypothesis(section, families, expected, titles)
            paths += write_figure(figure, Path(results) / "plots" / name)
    return paths


def draw_hypothesis(
    section: Section, families: list[Family], expected: Mapping[str, Expected], titles: Mapping[str, str]
) -> Figure:
    """For each family error and loss against depth, and error over gradient descent's against the factor."""
    across = len(QUANTITIES) + 1
    figure = Figure(figsize=(PANEL[0] * across, PANEL[1] * len(families) + 0.8), layout="constrained")
    axes = figure.subplots(len(families), across, squeeze=False)
    styles = dict(zip(titles, line_styles(), strict=False))
    lines = {}
    for row, family in zip(axes, families, strict=True):
        for ax, quantity in zip(row, QUANTITIES, strict=False):
            lines |= _draw_depths(ax, family, quantity, styles)
        _draw_factors(row[-1], family, expected)
    ordered = [method for method in titles if method in lines]
    figure.legend([lines[m] for m in ordered], [titles[m] for m in ordered], loc="outside lower center", ncols=4)
    caption = "means with 95 % intervals over seeds; one that reaches zero ends at the axis"
    figure.suptitle(f"{section.experiment.title}\n{caption}", fontsize=STYLE["font.size"])
    return figure


def _draw_depths(ax: Axes, family: Family, quantity: str, styles: Mapping[str, tuple]) -> dict:
    lines = {}
    for i, method in enumerate(family.methods):
        found = [(d, s) for d in family.depths if (s := family.summary(method, d, quantity))]
        colour, dash = styles[method]
        aside = 1.02 ** (i - len(family.methods) / 2)  # so that intervals do not hide each other
        lines[method] = ax.errorbar(
            [depth * aside for depth, _ in found],
            [s.mean for _, s in found],
            [s.half_width or 0 for _, s in found],
            color=colour,
            linestyle=dash,
            lw=1,
            capsize=2,
            elinewidth=0.7,
        )
    means = np.concatenate([line[0].get_ydata() for line in lines.values()])
    ax.set_xscale("log")
    if means.size and means.min() > 0:
        ax.set_ylim(means.min() / 2, means.max() * 2)
        use_log_scale(ax)
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticks(family.depths, [str(depth) for depth in family.depths])
    ax.set(title=f"{family.name}: {quantity}", xlabel="layers")
    return lines


def _draw_factors(ax: Axes, family: Family, expected: Mapping[str, Expected]) -> None:
    """Each method's error over gradient descent's of the same depth; a marker for each depth."""
    for depth, marker in zip(family.depths, ("o", "s", "^", "D"), strict=False):
        base = family.summary("gradient_descent", depth, ERROR)
        found = [(m, s) for m in family.methods if (s := family.summary(m, depth, ERROR))]
        if base and base.mean:
            ratios = [s.mean / base.mean for _, s in found]
            ax.plot(
                [expected[m].factor for m, _ in found], ratios, marker, ms=4, alpha=0.8, label=f"{depth} layers"
            )
    ax.axhline(1, color="black", lw=0.7)
    if len(ax.lines) > 1:
        use_log_scale(ax)
        ax.legend()
    ax.set(
        title=f"{family.name}: error against speed",
        xlabel="factor a layer (fast to slow)",
        ylabel="error / gradient descent's",
    )
