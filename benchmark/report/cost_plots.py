"""Error against cost: ``results/plots/<experiment>-cost-<section>``, parameters, multiply-adds and time.

A row of the table is a point: its mean test error with the standard deviation over seeds. The grey line is the
Pareto front: what lies on it has no rival with a smaller error at no larger cost. Times are of one device, that of
most runs; rows without a run there have no point among them.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from benchmark.ledger import Record
from benchmark.report.costs import fastest_epoch
from benchmark.report.figures import line_styles, write_section_figures
from benchmark.report.sections import Section, data_label
from benchmark.report.statistics import summarize
from benchmark.specs import Experiment

PANEL = (2.9, 2.6)  # inches
LEGEND_LINE = 0.2  # inches
LEGEND_COLUMNS = 3
SECONDS = "seconds per epoch"
Cost = Callable[[Record], float]
COSTS: tuple[tuple[str, Cost], ...] = (
    ("parameters", lambda record: record.result["parameters"]),
    ("multiply-adds", lambda record: record.result["multiply_adds"]),
    (SECONDS, fastest_epoch),
)
MARKERS = ("o", "s", "^")
FRONT = "#999999"


def write_costs(experiment: Experiment, results: Path) -> list[Path]:
    """A figure for each section of the table: a line of panels for each data set, one for each cost.

    Raises:
        UserError: no finished run, a damaged record, or runs that must not share a plot.
    """
    return write_section_figures(experiment, results, "cost", _measured, _figure)


def _measured(section: Section) -> list[str]:
    """Data sets with a finished run."""
    return [dataset for dataset in section.datasets if section.of(dataset=dataset, status="done")]


def _figure(section: Section, datasets: list[str]) -> Figure:
    rows = [row for row in section.rows if section.of(row, status="done")]
    legend = LEGEND_LINE * (1 - (-len(rows) // LEGEND_COLUMNS))
    figure = Figure(figsize=(PANEL[0] * len(COSTS), PANEL[1] * len(datasets) + legend + 0.3), layout="constrained")
    axes = figure.subplots(len(datasets), len(COSTS), squeeze=False, sharey="row")
    points = {}
    usual = section.usual_device
    for line, dataset in zip(axes, datasets, strict=True):
        for ax, (name, cost) in zip(line, COSTS, strict=True):
            points |= _draw(ax, section, dataset, rows, cost, usual if name == SECONDS else None)
            ax.set_xscale("log")
            _widen(ax)
            ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.xaxis.set_major_formatter(EngFormatter(sep=""))
            ax.xaxis.set_minor_formatter(NullFormatter())
            xlabel = f"{name}\n{usual}" if name == SECONDS else name
            ax.set(xlabel=xlabel, ylabel=f"{data_label(dataset)} test error (%)" if ax is line[0] else "")
    figure.legend(
        list(points.values()),
        [section.label(row) for row in points],
        loc="outside lower center",
        ncols=LEGEND_COLUMNS,
    )
    return figure


def _widen(ax: Axes) -> None:
    """On both sides, or equal costs would look different; by 3, so that two labels at least fit the axis."""
    low, high = ax.dataLim.intervalx
    if low <= high:  # else the panel is empty
        ax.set_xlim(low / 3, high * 3)


def pareto_front(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """The (cost, error) pairs that no other pair beats, from cheap to dear."""
    front: list[tuple[float, float]] = []
    for cost, error in sorted(points):
        if not front or error < front[-1][1]:
            front.append((cost, error))
    return front


def _draw(
    ax: Axes, section: Section, dataset: str, rows: list[str], cost: Cost, device: str | None
) -> dict[str, ErrorbarContainer]:
    """With a device, only what was measured on it."""
    points, places = {}, []
    for i, (row, (colour, _)) in enumerate(zip(rows, line_styles(), strict=False)):
        records = section.of(row, dataset, "done")
        costs = [cost(record) for record in records if device in (None, record.device)]
        if costs:
            error = summarize(record.result["test_error"] for record in records)
            x = min(costs)
            marker = MARKERS[i // 7 % len(MARKERS)]
            points[row] = ax.errorbar(x, error.mean, error.std or 0, fmt=marker, ms=4, color=colour, capsize=2)
            places.append((x, error.mean))
    if places:
        ax.step(*zip(*pareto_front(places), strict=True), where="post", color=FRONT, lw=0.8, zorder=1)
    return points
