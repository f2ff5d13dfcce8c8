"""What a few seeds say: mean and standard deviation, the difference of two networks, a rank correlation.

A t interval is used since it keeps its coverage at three seeds, where a bootstrap does not.
"""

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats

CONFIDENCE = 0.95
POWER = 0.8
MOST_SEEDS = 1000
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
    std: float | None = None

    @property
    def reason(self) -> str | None:
        """Why there is no interval; None if there is one."""
        if self.low is not None:
            return None
        return "1 seed" if self.n == 1 else f"same in {self.n} seeds"

    def seeds_needed(self, comparisons: int = 1) -> int | None:
        """The fewest seeds that detect the difference with power ``POWER`` if mean and spread are as estimated.

        At the level of ``detectable``. None without a spread to go by, or if ``MOST_SEEDS`` would not do.
        """
        if not self.std or not self.mean:
            return None
        counts = np.arange(2, MOST_SEEDS + 1)
        enough = np.flatnonzero(detectable(counts, comparisons) <= abs(self.mean) / self.std)
        return int(counts[enough[0]]) if enough.size else None


@dataclass(frozen=True)
class UnpairedDifference:
    """Difference of two means, a - b, with Welch's 95 % interval, in the values' unit, and its two-sided p value.

    ``low``, ``high`` and ``p`` are None if a side has one seed, or if the values of neither spread.
    """

    mean: float
    low: float | None
    high: float | None
    p: float | None
    n_a: int
    n_b: int

    @property
    def reason(self) -> str | None:
        """Why there is no interval; None if there is one."""
        if self.low is not None:
            return None
        return "1 seed" if min(self.n_a, self.n_b) == 1 else "no spread"


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
        return PairedDifference(mean, None, None, None, len(seeds))
    test = stats.ttest_rel(a, b)
    interval = test.confidence_interval(CONFIDENCE)
    return PairedDifference(
        mean,
        float(interval.low),
        float(interval.high),
        float(test.pvalue),
        len(seeds),
        float(differences.std(ddof=1)),
    )


def unpaired_difference(a: Sequence[float], b: Sequence[float]) -> UnpairedDifference:
    """a - b of the means of two sets of runs that are not paired, in the values' unit, by Welch's t test.

    Raises:
        ValueError: one side is empty.
    """
    if not len(a) or not len(b):
        raise ValueError("cannot compare with no values")
    mean = float(np.mean(a) - np.mean(b))
    if min(len(a), len(b)) < 2 or max(np.ptp(a), np.ptp(b)) < SAME:
        return UnpairedDifference(mean, None, None, None, len(a), len(b))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # where one side's values agree, which Welch's test allows
        test = stats.ttest_ind(a, b, equal_var=False)
    interval = test.confidence_interval(CONFIDENCE)
    return UnpairedDifference(mean, float(interval.low), float(interval.high), float(test.pvalue), len(a), len(b))


def detectable(seeds: ArrayLike, comparisons: int = 1) -> np.ndarray | np.floating:
    """The mean that so many seeds find with probability ``POWER``, in standard deviations of paired differences.

    By a two-sided paired t test at 5 % divided by the number of comparisons (Bonferroni's level, the strictest of
    Holm's), whose statistic has the noncentral t distribution.

    Args:
        seeds: two or more, of any shape.
    """
    seeds = np.asarray(seeds)
    critical = stats.t.isf((1 - CONFIDENCE) / (2 * comparisons), seeds - 1)
    return special.nctdtrinc(seeds - 1, 1 - POWER, critical) / np.sqrt(seeds)


def holm(p_values: Sequence[float]) -> list[float]:
    """p values adjusted for as many comparisons, in their order (Holm 1979): any below alpha is significant."""
    order = np.argsort(p_values)
    factors = np.arange(len(order), 0, -1)
    adjusted = np.maximum.accumulate(np.minimum(1, np.asarray(p_values)[order] * factors))
    return adjusted[np.argsort(order)].tolist()


def binomial_error(error: float, images: int) -> float:
    """Standard error (percentage points) of a test error (percent) due to the test sample only."""
    share = error / 100
    return 100 * math.sqrt(share * (1 - share) / images)


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
