"""Does a faster algorithm give a better structure? Error and loss by method and depth, and their rank correlation.

Made from the records of a hypothesis experiment, whose rows are ``<family>-<method>-<depth>``:
``tables/<experiment>.md``, ``.csv`` (one line a network) and ``-runs.csv`` (one line a run), and a figure.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from tabulate import tabulate

from benchmark.errors import UserError
from benchmark.ledger import Record, write_atomically
from benchmark.report.figures import STYLE, line_styles, write_figure
from benchmark.report.grid import NOTHING, signed
from benchmark.report.notes import section_notes
from benchmark.report.sections import Section, read_sections
from benchmark.report.statistics import CONFIDENCE, RankCorrelation, Summary, rank_correlation, summarize
from benchmark.specs import Experiment

PANEL = (3.0, 2.6)  # inches

Quantity = Callable[[Record], float]


def _test_error(record: Record) -> float:
    return record.result["test_error"]


def _train_loss(record: Record) -> float:
    return record.metrics[-1]["train_loss"]


QUANTITIES: dict[str, tuple[Quantity, int]] = {
    "test error (%)": (_test_error, 2),
    "training loss": (_train_loss, 3),
}
"""Each with the decimals that it is shown with. Both are of the last epoch."""


@dataclass(frozen=True)
class Speed:
    """A method's: the asymptotic factor of the distance to the minimum for one layer, and the distances themselves.

    ``distances[k]`` is that of k layers, over that of none.
    """

    factor: float
    distances: Sequence[float]


MEASURES: dict[str, Callable[[Speed, int], float]] = {
    "asymptotic factor": lambda speed, steps: speed.factor,
    "distance at the depth": lambda speed, steps: speed.distances[steps],
}
"""What "fast" means: of a method, in the long run or after as many steps as the network has."""


@dataclass(frozen=True)
class Family:
    """Networks of one kind: their records by method and depth. ``methods`` are ordered from slow to fast."""

    name: str
    methods: tuple[str, ...]
    depths: tuple[int, ...]
    records: Mapping[tuple[str, int], list[Record]]

    def steps(self, depth: int) -> int:
        """Of the method: one a layer, or one a block, anew in each of the three stages."""
        return (depth - 2) // 6 if self.name == "convolutional" else depth

    def done(self, method: str, depth: int) -> list[Record]:
        """Finished runs, without those that diverged."""
        return [r for r in self.records.get((method, depth), []) if r.status == "done"]

    def diverged(self, method: str, depth: int) -> int:
        """How many runs diverged."""
        return sum(r.status == "diverged" for r in self.records.get((method, depth), []))

    def summary(self, method: str, depth: int, quantity: str) -> Summary | None:
        """Mean and spread over seeds; None without a finished run."""
        values = [QUANTITIES[quantity][0](record) for record in self.done(method, depth)]
        return summarize(values) if values else None


def write_hypothesis(
    experiment: Experiment, results: Path, speeds: Mapping[str, Speed], titles: Mapping[str, str]
) -> list[Path]:
    """Write the tables and the figure of each section and return their paths.

    Args:
        experiment: rows ``<family>-<method>-<depth>``; others are left out.
        results: the results directory.
        speeds: by method, measured on the quadratic.
        titles: of the methods.

    Raises:
        UserError: no finished run, a damaged record, or runs that must not share a table.
    """
    paths = []
    for section in read_sections(experiment, Path(results)):
        families = read_families(section, speeds)
        if not families:
            raise UserError(f"no row of {experiment.name} was run; its rows are <family>-<method>-<depth>")
        name = f"{experiment.name}-{section.slug}"
        tables, plots = Path(results) / "tables", Path(results) / "plots"
        texts = {
            f"{name}.md": hypothesis_text(section, families, speeds, titles),
            f"{name}.csv": _csv(_networks(families, speeds)),
            f"{name}-runs.csv": _csv(_runs(families)),
        }
        for file, text in texts.items():
            paths.append(tables / file)
            write_atomically(paths[-1], text)
        with rc_context(STYLE):
            paths += write_figure(draw_hypothesis(section, families, speeds, titles), plots / name)
    return paths


def read_families(section: Section, speeds: Mapping[str, Speed]) -> list[Family]:
    """The section's records by family, method and depth."""
    records: dict[str, dict[tuple[str, int], list[Record]]] = {}
    for record in section.records:
        if section.experiment.row(record.cell.row):
            family, method, depth = record.cell.row.split("-")
            records.setdefault(family, {}).setdefault((method, int(depth)), []).append(record)
    order = {row.key.split("-")[0]: None for row in section.experiment.rows}
    return [
        Family(
            name,
            tuple(sorted({m for m, _ in records[name]}, key=lambda method: -speeds[method].factor)),
            tuple(sorted({depth for _, depth in records[name]})),
            records[name],
        )
        for name in order
        if name in records
    ]


def correlations(
    family: Family, speeds: Mapping[str, Speed], measure: str, quantity: str
) -> dict[str, RankCorrelation | None]:
    """Rank correlation over methods of ``measure`` and mean ``quantity``, by depth; "all" is of mean ranks.

    Positive: the faster the method, the smaller the quantity. Methods without a finished run at a depth are left
    out there; None where fewer than two remain or all agree.
    """
    slowness, results = {}, {}
    for depth in family.depths:
        found = {m: s.mean for m in family.methods if (s := family.summary(m, depth, quantity))}
        results[depth] = pd.Series(found, dtype=float)
        steps = family.steps(depth)
        slowness[depth] = pd.Series({m: MEASURES[measure](speeds[m], steps) for m in found}, dtype=float)
    ranks = [pd.DataFrame(side).dropna().rank().mean(axis=1) for side in (slowness, results)]
    return {
        **{str(depth): _correlate(slowness[depth], results[depth]) for depth in family.depths},
        "all": _correlate(*ranks),
    }


def _correlate(slowness: pd.Series, results: pd.Series) -> RankCorrelation | None:
    if min(slowness.nunique(), results.nunique()) < 2:
        return None
    return rank_correlation(slowness.tolist(), results[slowness.index].tolist())


def hypothesis_text(
    section: Section, families: list[Family], speeds: Mapping[str, Speed], titles: Mapping[str, str]
) -> str:
    """The tables and the answer as Markdown."""
    parts = [
        f"# {section.experiment.title}",
        "## Rank correlation of speed and result",
        _answers(families, speeds),
    ]
    for family in families:
        for quantity in QUANTITIES:
            parts += [f"## {family.name}: {quantity}", _table(family, speeds, titles, quantity)]
    notes = [
        f"Mean ± half of its {CONFIDENCE * 100:g} % t interval over seeds; (n) where a method lacks seeds.",
        "Fast, on the quadratic: in the long run (factor of the distance to the minimum by one layer) or at the "
        "depth (distance after as many steps as the network has; a convolutional one, in a stage). The two rank "
        "the methods differently, since momentum pays after many steps.",
        "Rank correlation (Spearman) over methods of speed and mean, with the interval of Bonett and Wright; +1: "
        "the faster the better; (n) where all runs of some methods diverged; — too few methods, or all the same. "
        "All depths: ranks averaged. The interval takes these methods for a sample of all methods.",
        "Linearised ADMM takes two gradients in a layer, at twice the multiply-adds.",
        "Last epoch's results, never the best.",
        *section_notes(section, []),
    ]
    return "\n\n".join(parts) + "\n\n" + "\n".join(f"- {note}" for note in notes) + "\n"


def draw_hypothesis(
    section: Section, families: list[Family], speeds: Mapping[str, Speed], titles: Mapping[str, str]
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
        _draw_factors(row[-1], family, speeds)
    ordered = [method for method in titles if method in lines]
    figure.legend([lines[m] for m in ordered], [titles[m] for m in ordered], loc="outside lower center", ncols=4)
    figure.suptitle(section.experiment.title, fontsize=STYLE["axes.titlesize"])
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
        ax.set_yscale("log")
        ax.set_ylim(means.min() / 2, means.max() * 2)
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticks(family.depths, [str(depth) for depth in family.depths])
    ax.set(title=f"{family.name}: {quantity}", xlabel="layers")
    return lines


def _draw_factors(ax: Axes, family: Family, speeds: Mapping[str, Speed]) -> None:
    """Each method's error over gradient descent's of the same depth; a marker for each depth."""
    for depth, marker in zip(family.depths, ("o", "s", "^", "D"), strict=False):
        base = family.summary("gradient_descent", depth, "test error (%)")
        found = [(m, s) for m in family.methods if (s := family.summary(m, depth, "test error (%)"))]
        if base and base.mean:
            ratios = [s.mean / base.mean for _, s in found]
            ax.plot([speeds[m].factor for m, _ in found], ratios, marker, ms=4, alpha=0.8, label=f"{depth} layers")
    ax.axhline(1, color="black", lw=0.7)
    if len(ax.lines) > 1:
        ax.set_yscale("log")
        ax.legend()
    ax.set(
        title=f"{family.name}: error against speed",
        xlabel="factor a layer (fast to slow)",
        ylabel="error / gradient descent's",
    )


def _table(family: Family, speeds: Mapping[str, Speed], titles: Mapping[str, str], quantity: str) -> str:
    seeds = max((len(family.done(m, d)) for m in family.methods for d in family.depths), default=0)
    lines = [
        {
            "method": titles[method],
            "factor a layer": f"{speeds[method].factor:.3f}",
            **{f"{d} layers": _value(family, method, d, quantity, seeds) for d in family.depths},
        }
        for method in family.methods
    ]
    return tabulate(lines, headers="keys", tablefmt="pipe", disable_numparse=True)


def _value(family: Family, method: str, depth: int, quantity: str, seeds: int) -> str:
    summary = family.summary(method, depth, quantity)
    diverged = family.diverged(method, depth)
    if summary is None:
        return "diverged" if diverged else NOTHING
    decimals = QUANTITIES[quantity][1]
    spread = "" if summary.half_width is None else f" ± {summary.half_width:.{decimals}f}"
    count = f" ({summary.n})" if summary.n < seeds else ""
    return f"{summary.mean:.{decimals}f}{spread}{count}" + (f", {diverged} diverged" if diverged else "")


def _answers(families: list[Family], speeds: Mapping[str, Speed]) -> str:
    depths = [*map(str, sorted({depth for family in families for depth in family.depths})), "all"]
    lines = []
    for family in families:
        for quantity in QUANTITIES:
            for measure in MEASURES:
                found = correlations(family, speeds, measure, quantity)
                texts = {_depth_title(d): _correlation_text(found.get(d), len(family.methods)) for d in depths}
                lines.append({"family": family.name, "quantity": quantity, "speed": measure, **texts})
    return tabulate(lines, headers="keys", tablefmt="pipe", disable_numparse=True)


def _depth_title(depth: str) -> str:
    return "all depths" if depth == "all" else f"{depth} layers"


def _correlation_text(value: RankCorrelation | None, methods: int) -> str:
    if value is None:
        return NOTHING
    count = f" (n = {value.n})" if value.n < methods or value.low is None else ""
    interval = "" if value.low is None else f" [{signed(value.low)}, {signed(value.high)}]"
    return f"{signed(value.rho)}{interval}{count}"


def _networks(families: Iterable[Family], speeds: Mapping[str, Speed]) -> list[dict]:
    rows = []
    for family in families:
        for depth in family.depths:
            for method in family.methods:
                row = {
                    "family": family.name,
                    "method": method,
                    "layers": depth,
                    "factor a layer": speeds[method].factor,
                }
                row |= {"n": len(family.done(method, depth)), "diverged": family.diverged(method, depth)}
                for quantity in QUANTITIES:
                    summary = family.summary(method, depth, quantity)
                    row[f"{quantity} mean"] = summary.mean if summary else np.nan
                    row[f"{quantity} half width"] = summary.half_width if summary else np.nan
                rows.append(row)
    return rows


def _runs(families: Iterable[Family]) -> list[dict]:
    return [
        {
            "family": family.name,
            "method": method,
            "layers": depth,
            "seed": record.seed,
            **{quantity: read(record) for quantity, (read, _) in QUANTITIES.items()},
            "parameters": record.result["parameters"],
            "run_id": record.result["run_id"],
        }
        for family in families
        for depth in family.depths
        for method in family.methods
        for record in family.done(method, depth)
    ]


def _csv(rows: list[dict]) -> str:
    return pd.DataFrame(rows).to_csv(index=False, float_format="%.6g", lineterminator="\n")
