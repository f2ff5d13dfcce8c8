import numpy as np
import pytest
from scipy import stats

from benchmark.report.statistics import (
    binomial_error,
    detectable,
    holm,
    paired_difference,
    rank_correlation,
    summarize,
    unpaired_difference,
)


def test_summary_by_hand():
    summary = summarize([5.0, 6.0, 7.0])
    assert (summary.mean, summary.std, summary.n) == (6.0, 1.0, 3)  # sqrt((1 + 0 + 1) / 2)


def test_one_value_has_no_deviation():
    assert summarize([5.0]).std is None
    assert summarize([5.0]).half_width is None


def test_interval_of_a_mean_is_scipys():
    values = [5.0, 6.0, 7.5, 5.5]
    summary = summarize(values)
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert (summary.mean - summary.half_width, summary.mean + summary.half_width) == pytest.approx((low, high))


def test_nothing_to_summarize():
    with pytest.raises(ValueError, match="no values"):
        summarize([])


def test_interval_by_hand():
    # differences -1, -2, -3: mean -2, standard error 1 / sqrt(3), t(2, 0.975) = 4.302653
    difference = paired_difference({0: 4.0, 1: 4.0, 2: 4.0}, {0: 5.0, 1: 6.0, 2: 7.0})
    half = 4.302653 / np.sqrt(3)
    assert (difference.low, difference.high) == pytest.approx((-2 - half, -2 + half), abs=1e-5)
    assert difference.n == 3


def test_interval_is_scipys():
    a, b = {0: 5.1, 1: 5.3, 2: 4.9, 3: 5.0}, {0: 5.6, 1: 5.5, 2: 5.4, 3: 5.6}
    difference = paired_difference(a, b)
    test = stats.ttest_rel(list(a.values()), list(b.values()))
    assert (difference.low, difference.high) == tuple(test.confidence_interval(0.95))
    assert difference.p == test.pvalue


def test_only_shared_seeds_are_paired():
    difference = paired_difference({2: 5.0, 0: 4.0, 1: 100.0}, {0: 5.0, 2: 5.5, 7: 0.0})
    assert difference.n == 2
    assert difference.mean == pytest.approx(-0.75)


def test_no_shared_seed():
    with pytest.raises(ValueError, match="shared seed"):
        paired_difference({0: 1.0}, {1: 1.0})


def test_one_seed_says_so():
    difference = paired_difference({0: 4.0}, {0: 5.0})
    assert (difference.mean, difference.low, difference.high, difference.p) == (-1.0, None, None, None)
    assert difference.reason == "1 seed"


@pytest.mark.parametrize("shift", [0.0, 0.2])
def test_same_difference_in_every_seed_has_no_interval(shift):
    """Rounding leaves 0.2 + x - x unequal in the last bits; that is no spread."""
    b = {0: 5.1, 1: 7.3, 2: 6.7}
    difference = paired_difference({seed: error + shift for seed, error in b.items()}, b)
    assert difference.mean == pytest.approx(shift)
    assert difference.low is None
    assert difference.reason == "same in 3 seeds"


def test_rank_correlation_by_hand():
    """Ranks 1 2 3 4 5 and 2 1 4 3 5: rho = 1 - 6 * 4 / (5 * 24) = 0.8; arctanh 0.8 = 1.0986, variance 1.32 / 2."""
    correlation = rank_correlation([0.1, 0.2, 0.3, 0.4, 0.5], [20, 10, 40, 30, 90])
    assert correlation.rho == pytest.approx(0.8)
    half = 1.959964 * np.sqrt(1.32 / 2)
    assert (correlation.low, correlation.high) == pytest.approx(
        (np.tanh(1.098612 - half), np.tanh(1.098612 + half))
    )
    assert correlation.n == 5


@pytest.mark.parametrize(("a", "b", "rho"), [([1, 2, 3], [2, 1, 3], 0.5), ([1, 2, 3, 4], [9, 8, 7, 1], -1)])
def test_too_few_pairs_or_full_agreement_give_no_interval(a, b, rho):
    correlation = rank_correlation(a, b)
    assert correlation.rho == pytest.approx(rho)
    assert correlation.low is None
    assert correlation.high is None


@pytest.mark.parametrize(("a", "b"), [([1], [1]), ([1, 2], [3, 3]), ([1, 2], [1, 2, 3])])
def test_no_correlation_of_values_that_do_not_differ(a, b):
    with pytest.raises(ValueError, match="two pairs"):
        rank_correlation(a, b)


def test_holm_by_hand():
    """Sorted 0.01, 0.02, 0.03, 0.5 times 4, 3, 2, 1: 0.04, 0.06, 0.06, 0.5; never smaller than the one before."""
    assert holm([0.02, 0.5, 0.01, 0.03]) == pytest.approx([0.06, 0.5, 0.04, 0.06])
    assert holm([0.4, 0.9]) == pytest.approx([0.8, 0.9])
    assert holm([0.7, 0.8]) == pytest.approx([1, 1])
    assert holm([]) == []


@pytest.mark.parametrize("comparisons", [1, 12])
def test_seeds_needed_find_the_difference_four_times_in_five(comparisons):
    """Simulated: mean 0.3 and deviation 0.5 of the differences."""
    shape = np.array([-1.0, 0.0, 1.0])
    ours = dict(enumerate(0.3 + 0.5 * shape))
    difference = paired_difference(ours, dict.fromkeys(ours, 0.0))
    needed = difference.seeds_needed(comparisons)
    draws = np.random.default_rng(0).normal(difference.mean, difference.std, (20_000, needed))
    found = (stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.05 / comparisons).mean()
    assert found == pytest.approx(0.8, abs=0.02)


@pytest.mark.parametrize("comparisons", [1, 16])
@pytest.mark.parametrize("seeds", [3, 5])
def test_what_is_detectable_is_found_four_times_in_five(seeds, comparisons):
    draws = np.random.default_rng(0).normal(detectable(seeds, comparisons), 1, (50_000, seeds))
    found = (stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.05 / comparisons).mean()
    assert found == pytest.approx(0.8, abs=0.01)


def test_no_number_of_seeds_without_a_spread_or_for_next_to_nothing():
    assert paired_difference({0: 4.0}, {0: 5.0}).seeds_needed() is None
    assert paired_difference({0: 1.0, 1: 1.001}, {0: 9.0, 1: 9.0}).seeds_needed() == 2
    assert paired_difference({0: 1.0, 1: -1.0001}, {0: 0.0, 1: 0.0}).seeds_needed() is None


def test_binomial_error_by_hand():
    assert binomial_error(10, 900) == pytest.approx(1)


def test_unpaired_difference_by_hand():
    """Variances 1 and 4, three and three values: standard error √(5 / 3), Welch's 50 / 17 degrees of freedom."""
    difference = unpaired_difference([4.0, 5.0, 6.0], [8.0, 10.0, 12.0])
    reach = stats.t.ppf(0.975, 50 / 17) * (5 / 3) ** 0.5
    assert difference.mean == -5.0
    assert (difference.low, difference.high) == pytest.approx((-5 - reach, -5 + reach))
    assert difference.p == pytest.approx(2 * stats.t.sf(5 / (5 / 3) ** 0.5, 50 / 17))


@pytest.mark.parametrize(
    ("a", "b", "reason"),
    [([5.0], [6.0, 7.0], "1 seed"), ([5.0, 6.0], [6.0], "1 seed"), ([5.0] * 3, [6.0] * 2, "no spread")],
)
def test_unpaired_without_a_spread_has_no_interval(a, b, reason):
    difference = unpaired_difference(a, b)
    assert (difference.low, difference.high, difference.p, difference.reason) == (None, None, None, reason)


def test_one_side_that_agrees_is_no_warning(recwarn):
    assert unpaired_difference([1.0, 1.2, 1.6], [1.4, 1.4, 1.4]).low is not None
    assert not recwarn.list


def test_unpaired_without_values():
    with pytest.raises(ValueError, match="no values"):
        unpaired_difference([], [1.0])
