"""The claim at a glance: ``results/plots/<experiment>-differences-<section>``.

For each row with a baseline the mean difference of their test errors, paired by seed, with its 95 % t interval:
left of zero the row is better. Blue stands after Holm's correction. A hollow point has no interval: one seed.
Beyond one point the axis is logarithmic where an interval reaches so far that others would not be seen beside it.
"""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmark.report.figures import OKABE_ITO, STYLE, write_section_figures
from benchmark.report.lines import Line, section_lines
from benchmark.report.published import PublishedNumbers
from benchmark.report.sections import Section, data_label
from benchmark.report.statistics import PairedDifference
from benchmark.specs import Experiment

WIDTH, LINE_HEIGHT = 5.6, 0.4  # inches
LARGE, LINEAR = 10.0, 1.0  # percentage points
NEUTRAL = "#666666"


def write_differences(experiment: Experiment, results: Path) -> list[Path]:
    """A figure for each section in which a row has a baseline, a panel for each data set.

    Raises:
        UserError: no finished run, a damaged record, or runs that must not share a plot.
    """
    return write_section_figures(experiment, results, "differences", _panels, _figure)


def _panels(section: Section) -> dict[str, list[Line]]:
    """By data set the rows that have a difference there."""
    lines = section_lines(section, PublishedNumbers(None, section.experiment.name))
    found = {d: [line for line in lines if line.entries[d].difference] for d in section.datasets}
    return {dataset: compared for dataset, compared in found.items() if compared}


def _figure(section: Section, panels: dict[str, list[Line]]) -> Figure:
    counts = [len(lines) for lines in panels.values()]
    height = LINE_HEIGHT * sum(counts) + 0.7 * len(panels) + 0.3
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots(len(panels), 1, squeeze=False, sharex=True, height_ratios=counts).ravel()
    for ax, (dataset, lines) in zip(axes, panels.items(), strict=True):
        _draw(ax, section, dataset, lines)
    entries = [line.entries[dataset] for dataset, lines in panels.items() for line in lines]
    if max(_reach(entry.difference) for entry in entries) > LARGE:
        axes[0].set_xscale("symlog", linthresh=LINEAR, subs=range(2, 10))
        axes[0].xaxis.set_major_formatter("{x:g}")
    figure.supxlabel("test error minus the baseline's (percentage points)", fontsize=STYLE["font.size"])
    return figure


def _reach(difference: PairedDifference) -> float:
    """How far from zero the difference or an end of its interval lies."""
    return max(abs(x) for x in (difference.mean, difference.low, difference.high) if x is not None)


def _draw(ax: Axes, section: Section, dataset: str, lines: list[Line]) -> None:
    for y, line in enumerate(lines):
        entry = line.entries[dataset]
        difference = entry.difference
        colour = OKABE_ITO[0] if entry.is_significant else NEUTRAL
        if difference.low is not None:
            ax.plot([difference.low, difference.high], [y, y], color=colour, lw=2)
        filled = colour if difference.low is not None else "white"
        ax.plot(difference.mean, y, "o", ms=5, color=colour, markerfacecolor=filled)
    ax.axvline(0, color="black", lw=0.8)
    labels = [f"{line.label}\n− {section.label(line.baseline)}" for line in lines]
    ax.set_yticks(range(len(lines)), labels)
    ax.set_ylim(len(lines) - 0.5, -0.5)
    ax.set_title(data_label(dataset))
