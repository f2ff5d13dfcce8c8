"""The tables of a momentum experiment: predicted and best beta, and error and loss over beta.

``tables/<experiment>-<section>.md``; ``-runs.csv`` has a line a run.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from tabulate import tabulate

from benchmark.ledger import write_atomically
from benchmark.report.hypothesis import ERROR, MEASURES, QUANTITIES, Expected
from benchmark.report.hypothesis_tables import mean_text
from benchmark.report.layout import MINUS, NOTHING, difference_text, signed
from benchmark.report.momentum import (
    Sweep,
    best_betas,
    difference,
    rank_correlations,
    read_momentum,
)
from benchmark.report.notes import section_notes
from benchmark.report.sections import Section
from benchmark.report.statistics import CONFIDENCE, Summary
from benchmark.specs import Experiment


def write_momentum_tables(experiment: Experiment, results: Path, expected: Mapping[float, Expected]) -> list[Path]:
    """Write the tables of each section and return their paths.

    Raises:
        UserError: as ``read_momentum``, or the folder cannot be written.
    """
    paths = []
    for section, sweeps, name in read_momentum(experiment, results):
        runs = pd.DataFrame(_runs(sweeps, expected)).to_csv(index=False, float_format="%.6g", lineterminator="\n")
        texts = {f"{name}.md": momentum_text(section, sweeps, expected), f"{name}-runs.csv": runs}
        for file, text in texts.items():
            paths.append(Path(results) / "tables" / file)
            write_atomically(paths[-1], text)
    return paths


def momentum_text(section: Section, sweeps: list[Sweep], expected: Mapping[float, Expected]) -> str:
    """The answers and the results as Markdown."""
    parts = [f"# {section.experiment.title}", "## Predicted and best beta", answers(sweeps, expected)]
    for sweep in sweeps:
        parts += [f"## {sweep.family}, {sweep.depth} layers", _results(sweep, expected)]
    notes = [
        f"Mean with its {CONFIDENCE * 100:g} % t interval over seeds, in the tables of results as ± half of it; "
        "(n) where seeds are missing or diverged.",
        "Predicted beta: of those tried the one with which heavy ball ends nearest to the minimum of the "
        "quadratic with the eigenvalues that W has at the start, after as many steps as the network has (a "
        "convolutional one, in a stage). Distance: root mean square over starts, 1 before the first step.",
        "Best beta: the one with the smallest result, by seed; the mean of those that tie. At an end of those "
        "tried it is a bound.",
        "Limiting factor: the asymptotic factor on the distance per step.",
        "Images left: how much the untrained network's last layer differs between noise images (three channels, "
        "for all data), relative to its first layer's input; to three digits, so some beta share a rank.",
        "Rank correlations (Spearman) over beta, by seed, of these three and the result; +1: nearer, faster "
        "or more left is better. Intervals are cut at −1 and +1.",
        "Difference: test error at the predicted beta minus that at 0, gradient descent, in percentage points, "
        "paired by seed; below 0 momentum helps.",
        "A run that diverged ranks last, and the difference leaves its seed out; a seed without every beta counts "
        "in neither best beta nor rank correlation.",
        "Last epoch's results, never the best; no interval is corrected for the others.",
        *section_notes(section, []),
    ]
    return "\n\n".join(parts) + "\n\n" + "\n".join(f"- {note}" for note in notes) + "\n"


def answers(sweeps: Iterable[Sweep], expected: Mapping[float, Expected]) -> str:
    """For each sweep and quantity predicted and best beta, the rank correlation and the difference: Markdown."""
    lines = []
    for sweep in sweeps:
        beta = sweep.predicted_beta(expected)
        for quantity in QUANTITIES:
            results = sweep.results(quantity)
            paired = difference(results, beta) if quantity == ERROR else None
            lines.append(
                {
                    "family": sweep.family,
                    "layers": sweep.depth,
                    "quantity": quantity,
                    "predicted beta": _beta(beta),
                    "best beta": _interval(best_betas(results), sweep.seeds),
                    **{
                        f"by {name}": _interval(
                            rank_correlations(results, sweep.measure(name, expected)), sweep.seeds, most=1
                        )
                        for name in MEASURES
                    },
                    "difference to beta = 0": difference_text(paired) + _count(paired, sweep.seeds),
                }
            )
    return tabulate(lines, headers="keys", tablefmt="pipe", disable_numparse=True)


def _beta(value: float) -> str:
    return f"{value:.1f}".replace("-", MINUS)


def _interval(value: Summary | None, seeds: int, most: float = np.inf) -> str:
    """It ends where the quantity does, at ``-most`` and ``most``."""
    if value is None:
        return NOTHING
    if not value.half_width:
        return f"{signed(value.mean)} ({'1 seed' if value.n == 1 else f'same in {value.n} seeds'})"
    low, high = max(value.mean - value.half_width, -most), min(value.mean + value.half_width, most)
    return f"{signed(value.mean)} [{signed(low)}, {signed(high)}]" + _count(value, seeds)


def _count(value: object, seeds: int) -> str:
    """`` (4)`` if it is of fewer seeds, which says so."""
    n = getattr(value, "n", seeds)
    return f" ({n})" if 1 < n < seeds else ""


def _results(sweep: Sweep, expected: Mapping[float, Expected]) -> str:
    lines = [
        {
            "beta": _beta(beta),
            **{
                name: NOTHING if np.isnan(value) else f"{abs(value):.3f}"
                for name in MEASURES
                for value in [sweep.measure(name, expected)[beta]]
            },
            **{
                quantity: mean_text(sweep.summary(quantity, beta), decimals, sweep.seeds, sweep.diverged(beta))
                for quantity, (_, decimals) in QUANTITIES.items()
            },
        }
        for beta, records in sorted(sweep.records.items())
        if records
    ]
    return tabulate(lines, headers="keys", tablefmt="pipe", disable_numparse=True)


def _runs(sweeps: Iterable[Sweep], expected: Mapping[float, Expected]) -> list[dict]:
    """A line a run; one that diverged has no results."""
    return [
        {
            "family": sweep.family,
            "layers": sweep.depth,
            "beta": beta,
            "seed": seed,
            "images left": expected[beta].images_left.get((sweep.family, sweep.depth)),
            "status": record.status,
            **{q: read(record) if record.status == "done" else np.nan for q, (read, _) in QUANTITIES.items()},
            "parameters": record.result.get("parameters"),
            "run_id": record.result["run_id"],
        }
        for sweep in sweeps
        for beta, records in sorted(sweep.records.items())
        for seed, record in sorted(records.items())
    ]
