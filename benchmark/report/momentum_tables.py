"""The tables of a momentum experiment: theory's beta and the networks', and error and loss over beta.

``tables/<experiment>-<section>.md``; ``-runs.csv`` has a line a run.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from tabulate import tabulate

from benchmark.ledger import write_atomically
from benchmark.report.hypothesis import ERROR, QUANTITIES
from benchmark.report.hypothesis_tables import mean_text
from benchmark.report.layout import MINUS, NOTHING, signed
from benchmark.report.momentum import (
    Distances,
    Sweep,
    agreement,
    best_betas,
    gain,
    read_momentum,
    theorys_beta,
)
from benchmark.report.notes import section_notes
from benchmark.report.sections import Section
from benchmark.report.statistics import CONFIDENCE, PairedDifference, Summary
from benchmark.specs import Experiment


def write_momentum_tables(experiment: Experiment, results: Path, distances: Distances) -> list[Path]:
    """Write the tables of each section and return their paths.

    Raises:
        UserError: as ``read_momentum``, or the folder cannot be written.
    """
    paths = []
    for section, sweeps, name in read_momentum(experiment, results):
        runs = pd.DataFrame(_runs(sweeps)).to_csv(index=False, float_format="%.6g", lineterminator="\n")
        for file, text in ((f"{name}.md", momentum_text(section, sweeps, distances)), (f"{name}-runs.csv", runs)):
            paths.append(Path(results) / "tables" / file)
            write_atomically(paths[-1], text)
    return paths


def momentum_text(section: Section, sweeps: list[Sweep], distances: Distances) -> str:
    """The answers and the results as Markdown."""
    parts = [f"# {section.experiment.title}", "## Theory's beta and the networks'", answers(sweeps, distances)]
    for sweep in sweeps:
        parts += [f"## {sweep.family}, {sweep.depth} layers", _results(sweep, distances)]
    interval = f"{CONFIDENCE * 100:g} % t interval over seeds"
    notes = [
        f"Mean with its {interval}, in results as ± half of it; (n) where seeds are missing or diverged.",
        "Theory's beta: of those tried the one with which heavy ball ends nearest to the minimum of the quadratic "
        "with the eigenvalues that W has at the start, after as many steps as the network has (a convolutional "
        "one, in a stage). Distance: root mean square over starts, 1 before the first step.",
        "Networks' beta: the one with the smallest result, by seed; the mean of those that tie.",
        "Rank correlation (Spearman) over beta of that distance and the result, by seed; +1: the nearer the "
        "better.",
        "Gain: result at theory's beta minus that at 0, gradient descent, paired by seed; below 0 momentum helps.",
        "Last epoch's results, never the best; no interval is corrected for the others.",
        *section_notes(section, []),
    ]
    return "\n\n".join(parts) + "\n\n" + "\n".join(f"- {note}" for note in notes) + "\n"


def answers(sweeps: Iterable[Sweep], distances: Distances) -> str:
    """For each sweep and quantity: theory's beta, the networks', their agreement and the gain, as Markdown."""
    lines = []
    for sweep in sweeps:
        near = sweep.distances(distances)
        for quantity, (_, decimals) in QUANTITIES.items():
            results = sweep.results[quantity]
            lines.append(
                {
                    "family": sweep.family,
                    "layers": sweep.depth,
                    "quantity": quantity,
                    "theory's beta": f"{theorys_beta(near):g}",
                    "networks' beta": _interval(best_betas(results)),
                    "rank correlation": _interval(agreement(results, near)),
                    "gain at theory's beta": _gain(gain(results, theorys_beta(near)), decimals),
                }
            )
    return tabulate(lines, headers="keys", tablefmt="pipe", disable_numparse=True)


def _interval(value: Summary | None) -> str:
    if value is None:
        return NOTHING
    if not value.half_width:
        return f"{signed(value.mean)} (n = {value.n})"
    return (
        f"{signed(value.mean)} [{signed(value.mean - value.half_width)}, {signed(value.mean + value.half_width)}]"
    )


def _gain(value: PairedDifference | None, decimals: int) -> str:
    if value is None:
        return NOTHING
    mean, *ends = (
        "" if number is None else f"{number:+.{decimals}f}".replace("-", MINUS)
        for number in (value.mean, value.low, value.high)
    )
    return f"{mean} [{', '.join(ends)}]" if value.low is not None else f"{mean} ({value.reason})"


def _results(sweep: Sweep, distances: Distances) -> str:
    near = sweep.distances(distances)
    seeds = len(sweep.results[ERROR])
    lines = [
        {
            "beta": f"{beta:g}".replace("-", MINUS),
            "distance": f"{near[beta]:.3f}",
            **{
                quantity: mean_text(sweep.summary(quantity, beta), decimals, seeds, sweep.diverged(beta))
                for quantity, (_, decimals) in QUANTITIES.items()
            },
        }
        for beta in sweep.betas
    ]
    return tabulate(lines, headers="keys", tablefmt="pipe", disable_numparse=True)


def _runs(sweeps: Iterable[Sweep]) -> list[dict]:
    """A line a run; those that diverged have no results."""
    lines = []
    for sweep in sweeps:
        tables = {q: results.replace(np.inf, np.nan) for q, results in sweep.results.items()}
        was_run = sweep.results[ERROR].notna()
        for beta in was_run.columns:
            for seed in was_run.index[was_run[beta]]:
                place = {"family": sweep.family, "layers": sweep.depth, "beta": beta, "seed": seed}
                lines.append({**place, **{quantity: table.at[seed, beta] for quantity, table in tables.items()}})
    return lines
