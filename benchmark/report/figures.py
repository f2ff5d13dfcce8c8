"""One style for all figures, and writing them: the same figure and the same matplotlib give the same bytes."""

import io
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle, product
from pathlib import Path
from typing import TypeVar

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import Locator, LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from benchmark.ledger import write_atomically
from benchmark.report.sections import Section, read_sections
from benchmark.specs import Experiment

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", (0, (4, 1.5)), (0, (1, 1)))
MARKERS = ("o", "s", "^")
BAND_OPACITY = 0.15
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e2e2e2",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.4,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "legend.handlelength": 2.4,
    "svg.hashsalt": "benchmark",
    "svg.fonttype": "path",
}
DOTS_PER_INCH = 200
TICKS_BY_SPAN: tuple[tuple[float, Callable[[], Locator]], ...] = (
    (3, partial(MaxNLocator, 6, steps=(1, 2, 5, 10))),
    (30, partial(LogLocator, subs=(1, 1.5, 2, 3, 4, 5, 7))),
    (1000, partial(LogLocator, subs=(1, 2, 5))),
)
"""Of a logarithmic axis: up to which ratio of its ends which numbers are marked."""

Found = TypeVar("Found")


def line_styles() -> Iterator[tuple[str, object]]:
    """Colours first, then the same colours dashed, then all over again."""
    return cycle((colour, dash) for dash, colour in product(DASHES, OKABE_ITO))


def point_styles() -> Iterator[tuple[str, str]]:
    """The same of points, whose markers change."""
    return cycle((colour, marker) for marker, colour in product(MARKERS, OKABE_ITO))


def use_log_scale(ax: Axes) -> None:
    """Upwards equal ratios get equal heights; ticks are plain numbers, or powers of ten where they span many."""
    ax.set_yscale("log")
    low, high = ax.get_ylim()
    for span, locator in TICKS_BY_SPAN:
        if high < span * low:
            ax.yaxis.set_major_locator(locator())
            ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            ax.yaxis.set_minor_formatter(NullFormatter())
            return


def write_section_figures(
    experiment: Experiment,
    results: Path,
    kind: str,
    find: Callable[[Section], Found],
    draw: Callable[[Section, Found], Figure],
    caption: str,
) -> list[Path]:
    """``plots/<experiment>-<kind>-<section>`` for each section in which ``find`` finds something to draw.

    Args:
        caption: what is drawn, the line below the section's title.

    Raises:
        UserError: no finished run, a damaged record, or runs that must not share a plot.
    """
    paths = []
    for section in read_sections(experiment, Path(results)):
        if found := find(section):
            with rc_context(STYLE):
                figure = draw(section, found)
                figure.suptitle(f"{section.title}\n{caption}", fontsize=STYLE["font.size"])
                _show_literally(figure)
                paths += write_figure(figure, Path(results) / "plots" / f"{experiment.name}-{kind}-{section.slug}")
    return paths


def _show_literally(figure: Figure) -> None:
    """Names that users gave, also with two "$" in them; formulas that matplotlib itself writes at ticks stay."""
    for text in figure.findobj(Text):
        if "$" in text.get_text() and "\\mathdefault" not in text.get_text():
            text.set_parse_math(False)


def write_figure(figure: Figure, stem: Path) -> list[Path]:
    """Write ``<stem>.svg`` and ``<stem>.png`` and return their paths.

    Raises:
        UserError: the folder cannot be written.
    """
    return [_write_svg(figure, stem), _write_png(figure, stem)]


def _write_svg(figure: Figure, stem: Path) -> Path:
    path, text = stem.with_name(f"{stem.name}.svg"), io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    write_atomically(path, text.getvalue())
    return path


def _write_png(figure: Figure, stem: Path) -> Path:
    path, content = stem.with_name(f"{stem.name}.png"), io.BytesIO()
    figure.savefig(content, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    write_atomically(path, content.getvalue())
    return path
