"""The claim at a glance: ``results/plots/<experiment>-differences-<section>``.

For each row with a baseline the mean difference of their test errors, paired by seed, with its 95 % t interval:
left of zero the row is better. Blue stands after Holm's correction. A hollow point has no interval: one seed.
Beyond one point the axis is logarithmic where an interval reaches so far that others would not be seen beside it.
"""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from benchmark.report.figures import OKABE_ITO, STYLE, write_section_figures
from benchmark.report.lines import Line, section_lines
from benchmark.report.published import PublishedNumbers
from benchmark.report.sections import Section, data_label
from benchmark.report.statistics import PairedDifference
from benchmark.specs import Experiment

WIDTH, CHARACTER, LINE_HEIGHT = 3.4, 0.066, 0.4  # inches, without and for the rows' names
LARGE, LINEAR = 10.0, 1.0  # percentage points
TICKS = (0, 0.5, 1, 3, 10, 30, 100)
ROOM = 1.3
NEUTRAL = "#666666"


def write_differences(experiment: Experiment, results: Path) -> list[Path]:
    """A figure for each section in which a row has a baseline, a panel for each data set.

    Raises:
        UserError: no finished run, a damaged record, or runs that must not share a plot.
    """
    caption = "differences paired by seed, mean and 95 % interval\nblue: stands after Holm's correction"
    return write_section_figures(experiment, results, "differences", _panels, _figure, caption)


def _panels(section: Section) -> dict[str, list[Line]]:
    """By data set the rows that have a difference there."""
    lines = section_lines(section, PublishedNumbers(None, section.experiment.name))
    found = {d: [line for line in lines if line.entries[d].difference] for d in section.datasets}
    return {dataset: compared for dataset, compared in found.items() if compared}


def _figure(section: Section, panels: dict[str, list[Line]]) -> Figure:
    counts = [len(lines) for lines in panels.values()]
    height = LINE_HEIGHT * sum(counts) + 0.7 * len(panels) + 0.6
    longest = max(len(line.label) for lines in panels.values() for line in lines)
    figure = Figure(figsize=(WIDTH + CHARACTER * longest, height), layout="constrained")
    axes = figure.subplots(len(panels), 1, squeeze=False, sharex=True, height_ratios=counts).ravel()
    for ax, (dataset, lines) in zip(axes, panels.items(), strict=True):
        _draw(ax, section, dataset, lines)
    differences = [line.entries[dataset].difference for dataset, lines in panels.items() for line in lines]
    label = "test error minus the baseline's (percentage points)"
    ends = [end for difference in differences for end in _ends(difference)]
    if max(map(abs, ends)) > LARGE:
        _use_symlog_scale(axes[0], min(ends), max(ends))
        label += f"\nbeyond ±{LINEAR:g} logarithmic"
    figure.supxlabel(label, fontsize=STYLE["font.size"])
    return figure


def _use_symlog_scale(ax: Axes, low: float, high: float) -> None:
    """With room beyond both ends, so that no interval looks cut off."""
    ax.set_xscale("symlog", linthresh=LINEAR, subs=range(2, 10))
    ax.set_xlim(min(ROOM * low, -ROOM * LINEAR), max(ROOM * high, ROOM * LINEAR))
    ax.xaxis.set_major_locator(FixedLocator([sign * tick for tick in TICKS for sign in (-1, 1)]))
    ax.xaxis.set_major_formatter("{x:g}")


def _ends(difference: PairedDifference) -> list[float]:
    """Of its interval, or the difference itself if it has none."""
    return [difference.mean] if difference.low is None else [difference.low, difference.high]


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
