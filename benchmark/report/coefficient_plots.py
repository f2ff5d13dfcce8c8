"""The coefficients that networks learned: ``results/plots/<experiment>-coefficients-<section>``.

One line a stage: the learned coefficient of each layer after training, mean over seeds and their range, beside the
value that it started from (Nesterov's is theory's, heavy ball's ``methods.HEAVY_BALL_BETA`` ours).
"""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmark.ledger import Record
from benchmark.report.figures import BAND_OPACITY, OKABE_ITO, write_section_figures
from benchmark.report.sections import Section, data_label
from benchmark.report.step_table_plots import TABLE
from benchmark.specs import Experiment

PANEL = (3.2, 2.6)  # inches
ACROSS = 3


def write_coefficients(experiment: Experiment, results: Path) -> list[Path]:
    """A figure for each section with learned coefficients, a panel for each row and data set.

    Returns:
        The paths, none if nothing learned a coefficient for each layer.

    Raises:
        UserError: a damaged record, or runs that must not share a plot.
    """
    caption = "learned coefficients after training: mean over seeds and, shaded, their range"
    return write_section_figures(experiment, results, "coefficients", _panels, _figure, caption)


def layer_coefficients(records: list[Record]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """By parameter: the start, [layers], and what each run learned, [runs, layers].

    Parameters with a single value, and the tables of dense networks, which have more than one for each layer
    (``step_table_plots``), are left out, and so are runs that recorded none.
    """
    learned = [kept for record in records if (kept := record.result.get("coefficients"))]
    first = learned[0] if learned else {}
    return {
        name: (np.array(values["start"]), np.array([run[name]["end"] for run in learned]))
        for name, values in first.items()
        if TABLE not in name and len(values["end"]) > 1
    }


def _panels(section: Section) -> list[tuple[str, str]]:
    return [
        (row, dataset)
        for dataset in section.datasets
        for row in section.rows
        if (records := section.of(row, dataset, "done")) and layer_coefficients(records)
    ]


def _figure(section: Section, panels: list[tuple[str, str]]) -> Figure:
    across = min(ACROSS, len(panels))
    down = -(-len(panels) // across)
    figure = Figure(figsize=(PANEL[0] * across, PANEL[1] * down + 0.4), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False).ravel()
    for ax, (row, dataset) in zip(axes, panels, strict=False):
        _draw(ax, layer_coefficients(section.of(row, dataset, "done")))
        ax.set_title(f"{section.label(row)}, {data_label(dataset)}", fontsize=8)
    for ax in list(axes)[len(panels) :]:
        ax.set_visible(False)
    return figure


def _draw(ax: Axes, coefficients: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """The blocks of all stages in a row; a stage's coefficients end at its last block. Each kind has its colour."""
    stages: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = {}
    for name, values in coefficients.items():
        stage, _, kind = name.rpartition(".")
        stages.setdefault(stage, {})[kind] = values
    kinds = {
        kind: OKABE_ITO[i] for i, kind in enumerate(dict.fromkeys(k for kept in stages.values() for k in kept))
    }
    before = 0
    for number, kept in enumerate(stages.values()):
        last = before + max(len(start) for start, _ in kept.values())
        for kind, (start, end) in kept.items():
            blocks, colour = np.arange(last - len(start), last) + 1, kinds[kind]
            labels = (kind, f"{kind}, start") if number == 0 else (None, None)
            ax.plot(blocks, end.mean(axis=0), "o-", ms=3, color=colour, label=labels[0])
            ax.plot(blocks, start, ":", color=colour, label=labels[1])
            if len(end) > 1:
                ax.fill_between(blocks, end.min(axis=0), end.max(axis=0), color=colour, alpha=BAND_OPACITY, lw=0)
        before = last + 1
    ax.set(xlabel="blocks, stage by stage", ylabel="coefficient")
    ax.set_xticks([])
    ax.legend()
