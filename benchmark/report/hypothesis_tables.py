"""The tables of a hypothesis experiment: error and loss by method and depth, and their rank correlation with speed.

``tables/<experiment>-<section>.md``; ``.csv`` has a line a network, ``-runs.csv`` a line a run.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from tabulate import tabulate

from benchmark.ledger import write_atomically
from benchmark.report.hypothesis import MEASURES, QUANTITIES, Expected, Family, correlations, read_hypothesis
from benchmark.report.layout import NOTHING, signed
from benchmark.report.notes import section_notes
from benchmark.report.sections import Section
from benchmark.report.statistics import CONFIDENCE, RankCorrelation, Summary
from benchmark.specs import Experiment


def write_hypothesis_tables(
    experiment: Experiment, results: Path, expected: Mapping[str, Expected], titles: Mapping[str, str]
) -> list[Path]:
    """Write the tables of each section and return their paths; ``titles`` are the methods'.

    Raises:
        UserError: as ``read_hypothesis``, or the folder cannot be written.
    """
    paths = []
    for section, families, name in read_hypothesis(experiment, results, expected):
        texts = {
            f"{name}.md": hypothesis_text(section, families, expected, titles),
            f"{name}.csv": _csv(_networks(families, expected)),
            f"{name}-runs.csv": _csv(_runs(families)),
        }
        for file, text in texts.items():
            paths.append(Path(results) / "tables" / file)
            write_atomically(paths[-1], text)
    return paths


def hypothesis_text(
    section: Section, families: list[Family], expected: Mapping[str, Expected], titles: Mapping[str, str]
) -> str:
    """The tables and the answer as Markdown."""
    parts = [
        f"# {section.experiment.title}",
        "## Rank correlation of speed and result",
        answers(families, expected),
    ]
    for family in families:
        for quantity in QUANTITIES:
            parts += [f"## {family.name}: {quantity}", _table(family, expected, titles, quantity)]
    notes = [
        f"Mean ± half of its {CONFIDENCE * 100:g} % t interval over seeds; (n) where a method lacks seeds.",
        "Speed, on the quadratic with W's initial eigenvalues: in the long run (limit of the factor by which a "
        "layer shortens the distance to the minimum; methods with the same limit share a rank) or at the depth "
        "(distance after as many steps as the network, or a convolutional one's stage, has; root mean square over "
        "starts). The two rank the methods differently, since momentum pays after many steps.",
        "Images left: no speed, but how much an untrained network's last layer differs between noise images, "
        "relative to its first layer's input; to three digits, so methods may share a rank.",
        "Rank correlation (Spearman) over methods of the expectation and the mean, with Bonett and Wright's "
        "interval; +1: faster (more left) is better; (n) where all runs of some methods diverged; —: too few "
        "methods, all equal, or other networks. All depths: ranks averaged. The interval treats these methods as a "
        "sample of all methods.",
        "Linearised ADMM takes two gradients in a layer, at twice the multiply-adds.",
        "Last epoch's results, never the best.",
        *section_notes(section, []),
    ]
    return "\n\n".join(parts) + "\n\n" + "\n".join(f"- {note}" for note in notes) + "\n"


def _table(family: Family, expected: Mapping[str, Expected], titles: Mapping[str, str], quantity: str) -> str:
    seeds = max((len(family.done(m, d)) for m in family.methods for d in family.depths), default=0)
    lines = [
        {
            "method": titles[method],
            "factor a layer": f"{expected[method].factor:.3f}",
            **{f"{d} layers": _value(family, method, d, quantity, seeds) for d in family.depths},
        }
        for method in family.methods
    ]
    return tabulate(lines, headers="keys", tablefmt="pipe", disable_numparse=True)


def _value(family: Family, method: str, depth: int, quantity: str, seeds: int) -> str:
    summary = family.summary(method, depth, quantity)
    return mean_text(summary, QUANTITIES[quantity][1], seeds, family.diverged(method, depth))


def mean_text(summary: Summary | None, decimals: int, seeds: int, diverged: int) -> str:
    """``2.12 ± 1.00 (4), 1 diverged``: mean, half of its interval, seeds if they are fewer than ``seeds``."""
    if summary is None:
        return "diverged" if diverged else NOTHING
    spread = "" if summary.half_width is None else f" ± {summary.half_width:.{decimals}f}"
    count = f" ({summary.n})" if summary.n < seeds else ""
    return f"{summary.mean:.{decimals}f}{spread}{count}" + (f", {diverged} diverged" if diverged else "")


def answers(families: list[Family], expected: Mapping[str, Expected]) -> str:
    """The rank correlations of each family, quantity and measure, as Markdown."""
    depths = [*map(str, sorted({depth for family in families for depth in family.depths})), "all"]
    lines = []
    for family in families:
        for quantity in QUANTITIES:
            for measure in MEASURES:
                found = correlations(family, expected, measure, quantity)
                texts = {_depth_title(d): _correlation_text(found.get(d), len(family.methods)) for d in depths}
                lines.append({"family": family.name, "quantity": quantity, "expected from": measure, **texts})
    return tabulate(lines, headers="keys", tablefmt="pipe", disable_numparse=True)


def _depth_title(depth: str) -> str:
    return "all depths" if depth == "all" else f"{depth} layers"


def _correlation_text(value: RankCorrelation | None, methods: int) -> str:
    if value is None:
        return NOTHING
    count = f" (n = {value.n})" if value.n < methods or value.low is None else ""
    interval = "" if value.low is None else f" [{signed(value.low)}, {signed(value.high)}]"
    return f"{signed(value.rho)}{interval}{count}"


def _networks(families: Iterable[Family], expected: Mapping[str, Expected]) -> list[dict]:
    rows = []
    for family in families:
        for depth in family.depths:
            for method in family.methods:
                row = {
                    "family": family.name,
                    "method": method,
                    "layers": depth,
                    "factor a layer": expected[method].factor,
                    "images left": expected[method].images_left.get((family.name, depth)),
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
