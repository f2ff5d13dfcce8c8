"""Error against cost: ``results/plots/<experiment>-cost-<section>``, parameters, multiply-adds and time.

A row of the table is a point: its mean test error with the standard deviation over seeds. The grey line is the
Pareto front: what lies on it has no rival with a smaller error at no larger cost. Times are of one device, that of
most runs of the data set; rows without a run there have no point among them. Structures of one size have the same
parameters: their points are set side by side, the middle one at its cost.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from benchmark.ledger import Record
from benchmark.report.costs import fastest_epoch, usual_device
from benchmark.report.figures import point_styles, use_log_scale, write_section_figures
from benchmark.report.sections import Section, data_label
from benchmark.report.statistics import Summary, summarize
from benchmark.specs import Experiment

PANEL = (2.9, 2.6)  # inches
LEGEND_LINE = 0.2  # inches
LEGEND_COLUMNS, LONG_LABEL = 3, 32  # characters
ALIKE, ASIDE, WIDEST, ROOM = 1.02, 1.06, 1.5, 3.0
"""Factors: up to which costs count as equal, between their points, at most from the first to the last of them, and
beyond all points: so much that equal costs look equal and two labels at least fit the axis."""
SECONDS = "seconds per epoch"
Cost = Callable[[Record], float]
COSTS: tuple[tuple[str, Cost], ...] = (
    ("parameters", lambda record: record.result["parameters"]),
    ("multiply-adds", lambda record: record.result["multiply_adds"]),
    (SECONDS, fastest_epoch),
)
FRONT = "#999999"


def write_costs(experiment: Experiment, results: Path) -> list[Path]:
    """A figure for each section of the table: a line of panels for each data set, one for each cost.

    Raises:
        UserError: no finished run, a damaged record, or runs that must not share a plot.
    """
    caption = (
        "mean and standard deviation over seeds; equal costs side by side; grey: no rival is better and cheaper"
    )
    return write_section_figures(experiment, results, "cost", _measured, _figure, caption)


def _measured(section: Section) -> list[str]:
    """Data sets with a finished run."""
    return [dataset for dataset in section.datasets if section.of(dataset=dataset, status="done")]


def _figure(section: Section, datasets: list[str]) -> Figure:
    styles = dict(
        zip((row for row in section.rows if section.of(row, status="done")), point_styles(), strict=False)
    )
    labels = [section.label(row) for row in styles]
    across = LEGEND_COLUMNS if max(map(len, labels)) <= LONG_LABEL else LEGEND_COLUMNS - 1
    legend = LEGEND_LINE * (1 - (-len(labels) // across))
    figure = Figure(figsize=(PANEL[0] * len(COSTS), PANEL[1] * len(datasets) + legend + 0.4), layout="constrained")
    axes = figure.subplots(len(datasets), len(COSTS), squeeze=False, sharey="row")
    for line, dataset in zip(axes, datasets, strict=True):
        for ax, (name, cost) in zip(line, COSTS, strict=True):
            _draw_panel(ax, section, dataset, name, cost, styles)
        line[0].set_ylabel(f"{data_label(dataset)} test error (%)")
        if all(record.result["test_error"] for record in section.of(dataset=dataset, status="done")):
            use_log_scale(line[0])
    handles = [Line2D([], [], color=colour, marker=marker, ms=4, ls="") for colour, marker in styles.values()]
    figure.legend(handles, labels, loc="outside lower center", ncols=across)
    return figure


def _draw_panel(
    ax: Axes, section: Section, dataset: str, name: str, cost: Cost, styles: Mapping[str, tuple[str, str]]
) -> None:
    device = usual_device(section.of(dataset=dataset, status="done")) if name == SECONDS else None
    points = _points(section, dataset, cost, device)
    places = [(x, error.mean) for x, error in points.values()]
    aside = side_by_side([x for x, _ in places]) if device is None else [x for x, _ in places]
    for x, (row, (_, error)) in zip(aside, points.items(), strict=True):
        colour, marker = styles[row]
        ax.errorbar(x, error.mean, error.std or 0, fmt=marker, ms=4, color=colour, capsize=2)
    ax.step(*zip(*pareto_front(places), strict=True), where="post", color=FRONT, lw=0.8, zorder=1)
    ax.set_xscale("log")
    low, high = ax.dataLim.intervalx
    ax.set_xlim(low / ROOM, high * ROOM)
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel(f"{name}\n{device}" if device else name)


def _points(section: Section, dataset: str, cost: Cost, device: str | None) -> dict[str, tuple[float, Summary]]:
    """By row its least cost and its error; with a device, of rows with a run on it."""
    points = {}
    for row in section.rows:
        records = section.of(row, dataset, "done")
        if costs := [cost(record) for record in records if device in (None, record.device)]:
            points[row] = min(costs), summarize(record.result["test_error"] for record in records)
    return points


def side_by_side(costs: Sequence[float]) -> list[float]:
    """Where to draw points on a logarithmic axis, in the given order: those of nearly equal costs side by side."""
    groups: list[list[int]] = []
    for i in sorted(range(len(costs)), key=costs.__getitem__):
        if groups and costs[i] < costs[groups[-1][0]] * ALIKE:
            groups[-1].append(i)
        else:
            groups.append([i])
    places = list(costs)
    for group in groups:
        beyond_first = len(group) - 1
        aside = min(ASIDE, WIDEST ** (1 / max(1, beyond_first)))
        for number, i in enumerate(sorted(group)):
            places[i] *= aside ** (number - beyond_first / 2)
    return places


def pareto_front(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """The (cost, error) pairs that no other pair beats, by increasing cost."""
    front: list[tuple[float, float]] = []
    for cost, error in sorted(points):
        if not front or error < front[-1][1]:
            front.append((cost, error))
    return front
