"""How much momentum does a network want? Results over beta, beside heavy ball's on a quadratic.

The rows of a momentum experiment are ``<family>-<depth>-<beta>``. Everything compared shares a seed: seeds are the
sample that intervals are over, and the values of beta are given. A run that diverged is worse than all others.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from benchmark.ledger import Record
from benchmark.report.hypothesis import DISTANCE, MEASURES, QUANTITIES, Expected
from benchmark.report.sections import Section, read_sections
from benchmark.report.statistics import PairedDifference, Summary, paired_difference, summarize
from benchmark.specs import Experiment


@dataclass(frozen=True)
class Sweep:
    """Networks that differ in beta alone: their runs that are done or diverged, by beta and seed."""

    family: str
    depth: int
    records: Mapping[float, Mapping[int, Record]]

    @property
    def seeds(self) -> int:
        """How many have a run."""
        return len({seed for found in self.records.values() for seed in found})

    def results(self, quantity: str) -> pd.DataFrame:
        """A line a seed, a column a beta: infinite where a run diverged, NaN where none was made.

        To six digits, as the table of runs has them, so that answers follow from it.
        """
        read, _ = QUANTITIES[quantity]
        values = {
            beta: {seed: float(f"{read(r):.6g}") if r.status == "done" else np.inf for seed, r in found.items()}
            for beta, found in self.records.items()
        }
        return pd.DataFrame(values, dtype=float).sort_index(axis=0).sort_index(axis=1)

    def measure(self, name: str, expected: Mapping[float, Expected]) -> pd.Series:
        """By beta, of these networks (``hypothesis.MEASURES``)."""
        found = {beta: MEASURES[name](expected[beta], self.family, self.depth) for beta in sorted(self.records)}
        return pd.Series(found, dtype=float)

    def predicted_beta(self, expected: Mapping[float, Expected]) -> float:
        """Theory's: the one with which heavy ball ends nearest to the minimum."""
        return float(self.measure(DISTANCE, expected).idxmin())

    def summary(self, quantity: str, beta: float) -> Summary | None:
        """Mean and spread over the seeds that did not diverge; None without one."""
        values = [QUANTITIES[quantity][0](r) for r in self.records[beta].values() if r.status == "done"]
        return summarize(values) if values else None

    def diverged(self, beta: float) -> int:
        """How many runs diverged."""
        return sum(r.status == "diverged" for r in self.records[beta].values())


def place_of(row: str) -> tuple[str, int, float]:
    """Family, depth and beta."""
    family, depth, beta = row.split("-", 2)
    return family, int(depth), float(beta)


def read_momentum(experiment: Experiment, results: Path) -> Iterator[tuple[Section, list[Sweep], str]]:
    """Each section with its sweeps and the name of its files.

    Raises:
        UserError: no finished run, a damaged record, or runs that must not share a table.
    """
    for section in read_sections(experiment, Path(results)):
        yield section, read_sweeps(section), f"{experiment.name}-{section.slug}"


def read_sweeps(section: Section) -> list[Sweep]:
    """The section's records by family and depth, in the experiment's order."""
    found: dict[tuple[str, int], dict[float, dict[int, Record]]] = {}
    for key in (row.key for row in section.experiment.rows):
        family, depth, beta = place_of(key)
        ended = [*section.of(row=key, status="diverged"), *section.of(row=key, status="done")]
        found.setdefault((family, depth), {})[beta] = {record.seed: record for record in ended}
    return [Sweep(*place, records) for place, records in found.items() if any(records.values())]


def best_betas(results: pd.DataFrame) -> Summary | None:
    """Over seeds, the beta with the smallest result, or the mean of those that tie; None without a seed.

    Over seeds with every beta and results that differ, as in ``rank_correlations``.
    """
    best = [line.index[line == line.min()].to_numpy().mean() for _, line in _telling(results).iterrows()]
    return summarize(best) if best else None


def rank_correlations(results: pd.DataFrame, measure: pd.Series) -> Summary | None:
    """Over seeds, Spearman's over beta of the measure and the result; None without a seed or a measure."""
    found = _telling(results).rank(axis=1).corrwith(measure.rank(), axis=1).dropna()
    return summarize(found) if len(found) else None


def _telling(results: pd.DataFrame) -> pd.DataFrame:
    complete = results.dropna()
    return complete[complete.nunique(axis=1) > 1]


def difference(errors: pd.DataFrame, beta: float) -> PairedDifference | None:
    """Of ``beta``, other than 0, to gradient descent, which is beta = 0, paired by seed; None without a pair.

    Of seeds that diverged at neither.
    """
    finite = errors[[0.0, beta]].replace(np.inf, np.nan).dropna()
    return paired_difference(finite[beta].to_dict(), finite[0.0].to_dict()) if len(finite) else None
