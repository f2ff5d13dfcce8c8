"""How much momentum does a network want? Results over beta, beside heavy ball's on a quadratic.

The rows of a momentum experiment are ``<family>-<depth>-<beta>``. Everything compared shares a seed: seeds are the
sample that intervals are over, and the values of beta are given.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from benchmark.errors import UserError
from benchmark.ledger import Record
from benchmark.report.hypothesis import ERROR, QUANTITIES, steps
from benchmark.report.sections import Section, read_sections
from benchmark.report.statistics import PairedDifference, Summary, paired_difference, summarize
from benchmark.specs import Experiment

Distances = Mapping[float, Sequence[float]]
"""By beta, of heavy ball after 0, 1, ... steps: ``theory.speed.distances``."""


@dataclass(frozen=True)
class Sweep:
    """Networks that differ in beta alone. ``results``: by quantity, a line a seed and a column a beta.

    A run that diverged is worse than all others: infinite. NaN: not run.
    """

    family: str
    depth: int
    results: Mapping[str, pd.DataFrame]

    def distances(self, distances: Distances) -> pd.Series:
        """By beta, of heavy ball after as many steps as the network has."""
        count = steps(self.family, self.depth)
        return pd.Series({beta: found[count] for beta, found in distances.items()}, dtype=float)

    def summary(self, quantity: str, beta: float) -> Summary | None:
        """Mean and spread over the seeds that did not diverge; None without one."""
        values = self.results[quantity][beta]
        finite = values[np.isfinite(values)]
        return summarize(finite) if len(finite) else None

    def diverged(self, beta: float) -> int:
        """How many runs diverged."""
        return int(np.isinf(self.results[ERROR][beta]).sum())

    @property
    def betas(self) -> list[float]:
        """Those that were run."""
        return self.results[ERROR].dropna(axis=1, how="all").columns.tolist()


def read_momentum(experiment: Experiment, results: Path) -> Iterator[tuple[Section, list[Sweep], str]]:
    """Each section with its sweeps and the name of its files.

    Raises:
        UserError: no finished run, a damaged record, or runs that must not share a table.
    """
    for section in read_sections(experiment, Path(results)):
        sweeps = read_sweeps(section)
        if not sweeps:
            raise UserError(f"no row of {experiment.name} was run; its rows are <family>-<depth>-<beta>")
        yield section, sweeps, f"{experiment.name}-{section.slug}"


def read_sweeps(section: Section) -> list[Sweep]:
    """The section's records by family and depth, in the experiment's order."""
    found: dict[tuple[str, int], dict[float, list[Record]]] = {}
    for key in (row.key for row in section.experiment.rows):
        family, depth, beta = key.split("-", 2)
        ended = [*section.of(row=key, status="done"), *section.of(row=key, status="diverged")]
        found.setdefault((family, int(depth)), {})[float(beta)] = ended
    return [
        Sweep(*place, {quantity: _table(runs, quantity) for quantity in QUANTITIES})
        for place, runs in found.items()
        if any(runs.values())
    ]


def _table(runs: Mapping[float, list[Record]], quantity: str) -> pd.DataFrame:
    read, _ = QUANTITIES[quantity]
    values = {
        beta: {record.seed: read(record) if record.status == "done" else np.inf for record in records}
        for beta, records in runs.items()
    }
    return pd.DataFrame(values, dtype=float).sort_index(axis=0).sort_index(axis=1)


def theorys_beta(distances: pd.Series) -> float:
    """The one that ends nearest to the minimum."""
    return float(distances.idxmin())


def best_betas(results: pd.DataFrame) -> Summary | None:
    """Over seeds, the beta with the smallest result, or the mean of those that tie; None without a seed.

    Of seeds that have every beta; so in ``agreement``.
    """
    complete = results.dropna()
    best = [line.index[line == line.min()].to_numpy().mean() for _, line in complete.iterrows()]
    return summarize(best) if best else None


def agreement(results: pd.DataFrame, distances: pd.Series) -> Summary | None:
    """Over seeds, the rank correlation over beta of distance and result: +1, the nearer the better.

    None without a seed whose results differ.
    """
    complete = results.dropna()
    found = complete.rank(axis=1).corrwith(distances.rank(), axis=1).dropna()
    return summarize(found) if len(found) else None


def gain(results: pd.DataFrame, beta: float) -> PairedDifference | None:
    """Results at ``beta`` minus those at 0, which is gradient descent, by seed; None without a pair.

    Of seeds that diverged at neither.
    """
    finite = results[[0.0, beta]].replace(np.inf, np.nan).dropna()
    return paired_difference(finite[beta].to_dict(), finite[0.0].to_dict()) if len(finite) else None
