"""The step tables that dense networks learned: ``results/plots/<experiment>-step_tables-<section>``.

A line of triangles a row: the factor with which layer k reads x_j, at the start and as learned in each block, the
mean over seeds. Zero is white, as in the method's own tables (``theory.draw_step_tables``); one is DenseNet's.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import CenteredNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from benchmark.ledger import Record
from benchmark.report.figures import write_section_figures
from benchmark.report.layer_order import layer_order
from benchmark.report.sections import Section, data_label
from benchmark.specs import Experiment

PANEL = (1.75, 1.9)  # inches
COLOURS, OUTSIDE = "RdBu", "#e8e8e8"
REACH = 2.0
"""How far from zero the colours tell factors apart: one large factor must not pale all others."""

TABLE = ".table."
"""In the names of the parameters that hold a row of a table, as in ``blocks.0.table.3``."""


def write_learned_tables(experiment: Experiment, results: Path) -> list[Path]:
    """A figure for each section with dense networks that learned their coefficients; none if none did.

    Raises:
        UserError: no finished run, a damaged record, or runs that must not share a plot.
    """
    caption = "how layer k reads feature j, mean over seeds (DenseNet: 1)"
    return write_section_figures(experiment, results, "step_tables", _learned, _figure, caption)


def step_tables(records: list[Record]) -> dict[str, np.ndarray]:
    """``start`` and each block by name, [layers, layers]: row k holds the factors of x_0, ..., x_k, then NaN.

    Learned ones are means over the runs that recorded them; empty if none did.
    """
    learned = [
        kept for r in records if (kept := r.result.get("coefficients")) and any(TABLE in name for name in kept)
    ]
    if not learned:
        return {}
    names = sorted(learned[0], key=layer_order)
    blocks = dict.fromkeys(name.partition(TABLE)[0] for name in names if TABLE in name)
    first = next(iter(blocks))
    ends = {block: np.mean([_table(run, block, "end") for run in learned], axis=0) for block in blocks}
    return {"start": _table(learned[0], first, "start"), **ends}


def _table(coefficients: Mapping[str, Any], block: str, moment: str) -> np.ndarray:
    names = sorted((name for name in coefficients if name.startswith(block + TABLE)), key=layer_order)
    rows = [coefficients[name][moment] for name in names]
    table = np.full((len(rows), len(rows)), np.nan)
    for k, row in enumerate(rows):
        table[k, : len(row)] = row
    return table


def _learned(section: Section) -> dict[tuple[str, str], dict[str, np.ndarray]]:
    """By row and data set, those that learned any."""
    return {
        (row, dataset): tables
        for dataset in section.datasets
        for row in section.rows
        if (tables := step_tables(section.of(row, dataset, "done")))
    }


def _figure(section: Section, found: Mapping[tuple[str, str], Mapping[str, np.ndarray]]) -> Figure:
    norm = CenteredNorm(0, REACH)
    across = max(map(len, found.values()))
    figure = Figure(figsize=(PANEL[0] * across + 0.8, PANEL[1] * len(found) + 0.4), layout="constrained")
    lines = figure.subfigures(len(found), squeeze=False).ravel()
    for line, ((row, dataset), tables) in zip(lines, found.items(), strict=True):
        axes = line.subplots(1, across, squeeze=False).ravel()
        for ax, (number, (name, table)) in zip(axes, enumerate(tables.items()), strict=False):
            image = _draw(ax, table, norm)
            ax.set_title(name if name == "start" else f"block {number}", fontsize=8)
        for ax in list(axes)[len(tables) :]:
            ax.set_visible(False)
        axes[0].set_ylabel("layer k")
        line.colorbar(image, ax=list(axes), label="factor of xⱼ", extend="both")
        line.suptitle(f"{section.label(row)}, {data_label(dataset)}", fontsize=8)
    return figure


def _draw(ax: Axes, table: np.ndarray, norm: CenteredNorm) -> AxesImage:
    image = ax.imshow(table, cmap=COLOURS, norm=norm, interpolation="nearest")
    ax.grid(False)
    ax.set_facecolor(OUTSIDE)
    ax.set_xlabel("j")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
    return image
