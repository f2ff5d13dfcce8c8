"""What a few seeds say: mean and standard deviation, the paired difference of two networks, a rank correlation.

A t interval is used since it keeps its coverage at three seeds, where a bootstrap does not.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
FEWEST_TO_CORRELATE = 4
SAME = 1e-4  # percentage points: above float32 rounding of an error, below one image of any test set


@dataclass(frozen=True)
class Summary:
    """Mean and sample standard deviation (n - 1 in the denominator; None for one value), in the values' unit."""

    mean: float
    std: float | None
    n: int

    @property
    def half_width(self) -> float | None:
        """Of the mean's 95 % t interval; None for one value."""
        if self.std is None:
            return None
        return float(stats.t.ppf((1 + CONFIDENCE) / 2, self.n - 1)) * self.std / math.sqrt(self.n)


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's rho of n pairs with its 95 % interval; ``low`` and ``high`` are None for too few pairs."""

    rho: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class PairedDifference:
    """Mean of a - b over shared seeds with its 95 % t interval, in the values' unit, and its two-sided p value.

    ``low``, ``high`` and ``p`` are None where the seeds show no spread to estimate an interval from: one seed, or
    the same difference in all of them. ``reason`` says which.
    """

    mean: float
    low: float | None
    high: float | None
    p: float | None
    n: int
    seeds: tuple[int, ...]

    @property
    def reason(self) -> str | None:
        """Why there is no interval; None if there is one."""
        if self.low is not None:
            return None
        return "1 seed" if self.n == 1 else f"same in {self.n} seeds"

    @property
    def excludes_zero(self) -> bool:
        """Whether there is an interval and zero lies outside."""
        return self.low is not None and not self.low <= 0 <= self.high


def summarize(values: Iterable[float]) -> Summary:
    """Mean, sample standard deviation and count.

    Raises:
        ValueError: no values.
    """
    values = np.asarray(list(values), dtype=float)
    if not values.size:
        raise ValueError("cannot summarize no values")
    std = float(values.std(ddof=1)) if values.size > 1 else None
    return Summary(float(values.mean()), std, values.size)


def paired_difference(a_by_seed: Mapping[int, float], b_by_seed: Mapping[int, float]) -> PairedDifference:
    """a - b over the seeds that both have, in percentage points; for errors, negative means that a is better.

    Raises:
        ValueError: no shared seed.
    """
    seeds = tuple(sorted(a_by_seed.keys() & b_by_seed.keys()))
    if not seeds:
        raise ValueError("cannot pair runs without a shared seed")
    a, b = [a_by_seed[s] for s in seeds], [b_by_seed[s] for s in seeds]
    differences = np.subtract(a, b)
    mean = float(differences.mean())
    if np.ptp(differences) < SAME:
        return PairedDifference(mean, None, None, None, len(seeds), seeds)
    test = stats.ttest_rel(a, b)
    interval = test.confidence_interval(CONFIDENCE)
    return PairedDifference(mean, float(interval.low), float(interval.high), float(test.pvalue), len(seeds), seeds)


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> RankCorrelation:
    """Spearman's rank correlation, with the interval of Bonett and Wright (2000), Psychometrika 65.

    arctanh(rho) is taken as normal with variance (1 + rho^2 / 2) / (n - 3): four pairs at least, and ranks that do
    not agree fully, for an interval.

    Raises:
        ValueError: fewer than two pairs, or all values of one side are the same.
    """
    if len(a) != len(b) or len(a) < 2 or min(len(set(a)), len(set(b))) < 2:
        raise ValueError("a rank correlation needs two pairs at least, and values that differ")
    rho, n = float(stats.spearmanr(a, b).statistic), len(a)
    if n < FEWEST_TO_CORRELATE or abs(rho) > 1 - 1e-12:
        return RankCorrelation(rho, None, None, n)
    reach = float(stats.norm.ppf((1 + CONFIDENCE) / 2)) * math.sqrt((1 + rho**2 / 2) / (n - 3))
    return RankCorrelation(rho, math.tanh(math.atanh(rho) - reach), math.tanh(math.atanh(rho) + reach), n)
