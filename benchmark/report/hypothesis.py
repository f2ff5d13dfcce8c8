"""Does a faster algorithm give a better structure? Error and loss by method and depth, and their rank correlation.

Made from the records of a hypothesis experiment, whose rows are ``<family>-<method>-<depth>``:
``tables/<experiment>.md``, ``.csv`` (one line a network) and ``-runs.csv`` (one line a run), and a figure.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from tabulate import tabulate

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
class Family:
    """Networks of one kind: their records by method and depth. ``methods`` are ordered from slow to fast."""

    name: str
    methods: tuple[str, ...]
    depths: tuple[int, ...]
    records: Mapping[tuple[str, int], list[Record]]

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
    experiment: Experiment, results: Path, factors: Mapping[str, float], titles: Mapping[str, str]
) -> list[Path]:
    """Write the tables and the figure of each section and return their paths.

    Args:
        experiment: rows ``<family>-<method>-<depth>``; others are left out.
        results: the results directory.
        factors: by method, the measured factor of the distance to the minimum for one layer.
        titles: of the methods.

    Raises:
        UserError: no finished run, a damaged record, or runs that must not share a table.
    """
    paths = []
    sections = read_sections(experiment, Path(results))
    for section in sections:
        families = read_families(section, factors)
        name = experiment.name if len(sections) == 1 else f"{experiment.name}-{section.slug}"
        tables, plots = Path(results) / "tables", Path(results) / "plots"
        texts = {
            f"{name}.md": hypothesis_text(section, families, factors, titles),
            f"{name}.csv": _csv(_networks(families, factors)),
            f"{name}-runs.csv": _csv(_runs(families)),
        }
        for file, text in texts.items():
            paths.append(tables / file)
            write_atomically(paths[-1], text)
        with rc_context(STYLE):
            paths += write_figure(draw_hypothesis(section, families, factors, titles), plots / name)
    return paths


def read_families(section: Section, factors: Mapping[str, float]) -> list[Family]:
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
            tuple(sorted({m for m, _ in records[name]}, key=lambda method: -factors[method])),
            tuple(sorted({depth for _, depth in records[name]})),
            records[name],
        )
        for name in order
        if name in records
    ]


def correlations(family: Family, factors: Mapping[str, float], quantity: str) -> dict[str, RankCorrelation | None]:
    """Rank correlation over methods of factor and mean ``quantity``, by depth; "all" is of the ranks' averages.

    Positive: the faster the method, the smaller the quantity. Methods without a finished run at a depth are left
    out there; None where fewer than two remain or all agree.
    """
    by_depth = {
        depth: {m: s.mean for m in family.methods if (s := family.summary(m, depth, quantity))}
        for depth in family.depths
    }
    found = {str(depth): _correlate(values, factors) for depth, values in by_depth.items()}
    everywhere = [m for m in family.methods if all(m in values for values in by_depth.values())]
    ranks = pd.DataFrame({depth: pd.Series(by_depth[depth])[everywhere].rank() for depth in family.depths})
    return {**found, "all": _correlate(ranks.mean(axis=1).to_dict(), factors)}


def hypothesis_text(
    section: Section, families: list[Family], factors: Mapping[str, float], titles: Mapping[str, str]
) -> str:
    """The tables and the answer as Markdown."""
    parts = [
        f"# {section.experiment.title}",
        "## Rank correlation of speed and result",
        _answers(families, factors),
    ]
    for family in families:
        for quantity in QUANTITIES:
            parts += [f"## {family.name}: {quantity}", _table(family, factors, titles, quantity)]
    kept = [note for note in section_notes(section, []) if not note.startswith(("Test error", "s/epoch"))]
    notes = [
        f"Mean ± half of its {CONFIDENCE * 100:g} % t interval over seeds; (n) where a method lacks seeds.",
        "Factor: measured reduction of the distance to the minimum by one layer, on the quadratic.",
        "Rank correlation (Spearman) over methods of factor and mean, with the interval of Bonett and Wright; "
        "+1: the faster the better; — too few methods, or all the same. All depths: ranks averaged.",
        *kept,
    ]
    return "\n\n".join(parts) + "\n\n" + "\n".join(f"- {note}" for note in notes) + "\n"


def draw_hypothesis(
    section: Section, families: list[Family], factors: Mapping[str, float], titles: Mapping[str, str]
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
        _draw_factors(row[-1], family, factors)
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
    ax.set_xscale("log")
    ax.set_yscale("log")
    means = np.concatenate([line[0].get_ydata() for line in lines.values()])
    ax.set_ylim(means.min() / 2, means.max() * 2)
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticks(family.depths, [str(depth) for depth in family.depths])
    ax.set(title=f"{family.name}: {quantity}", xlabel="layers")
    return lines


def _draw_factors(ax: Axes, family: Family, factors: Mapping[str, float]) -> None:
    """Each method's error over gradient descent's of the same depth; a marker for each depth."""
    for depth, marker in zip(family.depths, ("o", "s", "^", "D"), strict=False):
        base = family.summary("gradient_descent", depth, "test error (%)")
        found = [(m, s) for m in family.methods if (s := family.summary(m, depth, "test error (%)"))]
        if base:
            ratios = [s.mean / base.mean for _, s in found]
            ax.plot([factors[m] for m, _ in found], ratios, marker, ms=4, alpha=0.8, label=f"{depth} layers")
    ax.axhline(1, color="black", lw=0.7)
    ax.set_yscale("log")
    ax.set(
        title=f"{family.name}: error against speed",
        xlabel="factor a layer (fast to slow)",
        ylabel="error / gradient descent's",
    )
    ax.legend()


def _table(family: Family, factors: Mapping[str, float], titles: Mapping[str, str], quantity: str) -> str:
    seeds = max((len(family.done(m, d)) for m in family.methods for d in family.depths), default=0)
    lines = [
        {
            "method": titles[method],
            "factor a layer": f"{factors[method]:.3f}",
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


def _answers(families: list[Family], factors: Mapping[str, float]) -> str:
    depths = [*map(str, sorted({depth for family in families for depth in family.depths})), "all"]
    lines = []
    for family in families:
        for quantity in QUANTITIES:
            found = correlations(family, factors, quantity)
            texts = {_depth_title(depth): _correlation_text(found.get(depth)) for depth in depths}
            lines.append({"family": family.name, "quantity": quantity, **texts})
    return tabulate(lines, headers="keys", tablefmt="pipe", disable_numparse=True)


def _depth_title(depth: str) -> str:
    return "all depths" if depth == "all" else f"{depth} layers"


def _correlation_text(value: RankCorrelation | None) -> str:
    if value is None:
        return NOTHING
    if value.low is None:
        return f"{signed(value.rho)} (n = {value.n})"
    return f"{signed(value.rho)} [{signed(value.low)}, {signed(value.high)}]"


def _correlate(values: Mapping[str, float], factors: Mapping[str, float]) -> RankCorrelation | None:
    if len(values) < 2 or len(set(values.values())) < 2:
        return None
    return rank_correlation([factors[method] for method in values], list(values.values()))


def _networks(families: Iterable[Family], factors: Mapping[str, float]) -> list[dict]:
    rows = []
    for family in families:
        for depth in family.depths:
            for method in family.methods:
                row = {"family": family.name, "method": method, "layers": depth, "factor a layer": factors[method]}
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
