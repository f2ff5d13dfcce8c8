"""Tables and figures of the theory: convergence on f, and each method's table of steps beside its network."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Arc
from tabulate import tabulate

from benchmark.ledger import write_atomically
from benchmark.report.figures import STYLE, line_styles, write_figure

Row = Mapping[str, Any]

POSITIVE, NEGATIVE = "#0072B2", "#D55E00"
SMALLEST_ARC = 0.02
"""Steps below this size are not drawn in a network."""


def write_convergence(
    results: Path, rows: Sequence[Row], titles: Mapping[str, str], origin: Mapping[str, str]
) -> list[Path]:
    """Write ``tables/theory-convergence.{csv,md}`` and ``plots/theory-convergence.{svg,png}``.

    Args:
        results: the results directory.
        rows: of ``theory.convergence.measure``.
        titles: of the methods, in the order of the legend.
        origin: ``device``, ``torch`` and ``commit``.
    """
    table = pd.DataFrame([{k: v for k, v in row.items() if k != "distances"} for row in rows])
    table["layers to 1e-6"] = table["layers to 1e-6"].astype("Int64")
    stem = Path(results) / "tables" / "theory-convergence"
    paths = [stem.with_suffix(".csv"), stem.with_suffix(".md")]
    write_atomically(paths[0], table.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    write_atomically(paths[1], _convergence_text(table, titles, origin))
    with rc_context(STYLE):
        paths += write_figure(draw_convergence(rows, titles), Path(results) / "plots" / "theory-convergence")
    return paths


def write_step_tables(results: Path, tables: Mapping[str, Sequence[Sequence[float]]]) -> list[Path]:
    """Write ``plots/theory-step-tables.{svg,png}``.

    Args:
        results: the results directory.
        tables: by the method's title, its lower-triangular table of steps, (layers, layers).
    """
    with rc_context({**STYLE, "axes.grid": False}):
        return write_figure(draw_step_tables(tables), Path(results) / "plots" / "theory-step-tables")


def draw_convergence(rows: Sequence[Row], titles: Mapping[str, str]) -> Figure:
    """Distance to the minimum against layer: a line of panels for each objective, one for each condition number."""
    kinds = list(dict.fromkeys(row["objective"] for row in rows))
    numbers = list(dict.fromkeys(row["condition number"] for row in rows))
    styles = dict(zip(titles, line_styles(), strict=False))
    figure = Figure(figsize=(2.9 * len(numbers), 2.5 * len(kinds) + 0.6), layout="constrained")
    axes = figure.subplots(len(kinds), len(numbers), squeeze=False, sharex=True, sharey=True)
    lines = {}
    for row in rows:
        ax = axes[kinds.index(row["objective"])][numbers.index(row["condition number"])]
        colour, dash = styles[row["method"]]
        (lines[row["method"]],) = ax.semilogy(row["distances"], color=colour, linestyle=dash)
        ax.set_title(f"{row['objective']}, κ = {row['condition number']}")
    for ax in axes[-1]:
        ax.set_xlabel("layer")
    for ax in axes[:, 0]:
        ax.set_ylabel("distance to the minimum")
        ax.set_ylim(1e-13, 30)
    figure.legend(list(lines.values()), [titles[m] for m in lines], loc="outside lower center", ncols=4)
    return figure


def draw_step_tables(tables: Mapping[str, Sequence[Sequence[float]]]) -> Figure:
    """For each method its table as a heat map, and the network: an arc from each gradient to the layer it feeds."""
    across = 2
    down = -(-len(tables) // across)
    figure = Figure(figsize=(4.6 * across, 2.0 * down + 0.4), layout="constrained")
    axes = figure.subplots(down, 2 * across, squeeze=False, width_ratios=[1, 1.3] * across)
    panels = axes.reshape(-1, 2)
    limit = max(float(np.abs(table).max()) for table in tables.values())
    for (left, right), (title, table) in zip(panels, tables.items(), strict=False):
        image = _draw_heat_map(left, np.asarray(table), limit)
        left.set_title(title)
        _draw_network(right, np.asarray(table))
    for ax in panels[len(tables) :].flat:
        ax.set_visible(False)
    figure.colorbar(image, ax=axes, shrink=0.5, label="step $h_{k+1}^j$")
    return figure


def _draw_heat_map(ax: Axes, table: np.ndarray, limit: float) -> Any:
    shown = np.where(np.tri(len(table), dtype=bool), table, np.nan)
    image = ax.imshow(shown, cmap="RdBu", vmin=-limit, vmax=limit)
    ax.set(xlabel="gradient $j$", ylabel="layer $k$", xticks=[0, len(table) - 1], yticks=[0, len(table) - 1])
    return image


def _draw_network(ax: Axes, table: np.ndarray) -> None:
    """Layers 0, ..., n in a row; the wider an arc from j to k + 1, the larger the step."""
    count = len(table)
    largest = np.abs(table).max()
    ax.plot([0, count], [0, 0], color="#888888", lw=0.8, zorder=1)
    for k, row in enumerate(table):
        for j in range(k + 1):
            if abs(row[j]) > SMALLEST_ARC * largest:
                span = k + 1 - j
                arc = Arc(
                    ((j + k + 1) / 2, 0),
                    span,
                    span,
                    theta1=0,
                    theta2=180,
                    lw=0.3 + 2.2 * abs(row[j]) / largest,
                    color=POSITIVE if row[j] > 0 else NEGATIVE,
                    alpha=0.8,
                )
                ax.add_patch(arc)
    ax.scatter(range(count + 1), [0] * (count + 1), s=18, color="black", zorder=3)
    ax.set(xlim=(-0.5, count + 0.5), ylim=(-0.4, count / 2 + 0.3), aspect="equal")
    ax.axis("off")


def _convergence_text(table: pd.DataFrame, titles: Mapping[str, str], origin: Mapping[str, str]) -> str:
    lines = [
        {
            "objective": row["objective"],
            "κ": f"{row['condition number']:g}",
            "method": titles[row["method"]],
            "layers to 10⁻⁶": "—" if pd.isna(row["layers to 1e-6"]) else str(row["layers to 1e-6"]),
            "factor a layer": _number(row["measured factor"]),
            "proven": _number(row["proven factor"]),
            "share of the bound, largest": _number(row["bound used"]),
            "at the end": _number(row["bound used at the end"]),
        }
        for _, row in table.iterrows()
    ]
    notes = (
        "- A network of k layers with T(x) = Φ(Wx), W random with |W| = 1 − 1/κ, is k iterations of the method on "
        "f; the objective's name is its activation's, and the quadratic's is the identity.\n"
        "- Distances are |z_k − z*| with z = U x; — in the third column: not within the layers measured.\n"
        "- The factor is the geometric mean over the later half of the layers; it is below the proven one where f "
        "is better conditioned near its minimum than everywhere. The bound is proven for each k: no share is "
        "above 1 (layer 0 often reaches it); where the share of the last layer is far from 0 the rate is sharp.\n"
        "- float64, one random W and start for each line; exact up to rounding, so no seeds. Shares at the end "
        "that are near 0 may be rounding's, and differ from machine to machine.\n"
        f"- {origin['device']}, torch {origin['torch']}, commit {origin['commit']}."
    )
    body = tabulate(lines, headers="keys", tablefmt="pipe", disable_numparse=True)
    return f"# Convergence of the structures on f\n\n{body}\n\n{notes}\n"


def _number(value: float | None) -> str:
    return "—" if value is None or pd.isna(value) else f"{value:.3f}"
