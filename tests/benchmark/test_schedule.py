"""Schedules keep Graham's bounds, lose no work, and say what limits them."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.schedule import LONGEST_RUN, TOTAL_WORK, WHOLE_RUNS, simulate

LENGTHS = st.lists(st.floats(0, 1e6, allow_subnormal=False), max_size=30)


def best_makespan(seconds, devices):
    """Of all assignments."""
    return min(
        max(sum(s for s, d in zip(seconds, chosen, strict=True) if d == device) for device in range(devices))
        for chosen in product(range(devices), repeat=len(seconds))
    )


@given(LENGTHS, st.integers(1, 40))
def test_no_schedule_beats_its_bounds_and_none_loses_work(seconds, devices):
    schedule = simulate(seconds, devices)
    assert schedule.work == pytest.approx(sum(seconds))
    assert schedule.longest == max(seconds, default=0)
    assert schedule.makespan >= schedule.longest
    assert schedule.makespan >= schedule.work / devices * (1 - 1e-12)
    assert 0 <= schedule.idle_share < 1
    assert schedule.work == pytest.approx(schedule.held * (1 - schedule.idle_share))
    assert len(schedule.loads) <= devices
    assert 1 - 1e-12 <= schedule.speed_up <= devices * (1 + 1e-12)


@given(st.lists(st.integers(1, 20), min_size=1, max_size=7), st.integers(1, 3))
def test_longest_first_is_as_near_to_the_best_schedule_as_graham_proved(seconds, devices):
    best = best_makespan(seconds, devices)
    makespan = simulate(seconds, devices).makespan
    assert best <= makespan <= (4 / 3 - 1 / (3 * devices)) * best * (1 + 1e-12)


def test_grahams_worst_case_is_reached():
    """2m + 1 runs of 2m - 1, 2m - 1, ..., m + 1, m + 1, m, m, m: 11 for m = 3, where 9 is possible."""
    assert simulate([5, 5, 4, 4, 3, 3, 3], 3).makespan == 11
    assert best_makespan([5, 5, 4, 4, 3, 3, 3], 3) == 9


@given(LENGTHS)
def test_one_device_takes_the_sum_and_is_never_idle(seconds):
    schedule = simulate(seconds, 1)
    assert schedule.makespan == pytest.approx(sum(seconds))
    assert schedule.idle_share == pytest.approx(0)


@given(LENGTHS, st.integers(0, 1000))
def test_a_device_for_each_run_takes_the_longest(seconds, more):
    assert simulate(seconds, len(seconds) + 1 + more).makespan == max(seconds, default=0)


@pytest.mark.parametrize(
    ("seconds", "devices", "limit"),
    [
        ([1] * 100, 8, TOTAL_WORK),
        ([1] * 9, 8, WHOLE_RUNS),
        ([5, 1, 1, 1], 8, LONGEST_RUN),
        ([5, 5, 4, 4, 3, 3, 3], 3, WHOLE_RUNS),
        ([3], 1, LONGEST_RUN),
    ],
)
def test_what_limits_a_schedule(seconds, devices, limit):
    assert simulate(seconds, devices).limit == limit


def test_devices_without_a_run_are_idle_and_cost_no_memory():
    schedule = simulate([2, 1], 10**9)
    assert schedule.loads == (1, 2)
    assert schedule.makespan == 2
    assert schedule.held == 2e9
    assert schedule.idle_share == pytest.approx(1)


def test_nothing_left_to_run():
    schedule = simulate([0, 0], 4)
    assert (schedule.makespan, schedule.idle_share, schedule.held) == (0, 0, 0)


@pytest.mark.parametrize(("seconds", "devices"), [([1], 0), ([-1], 1), ([float("nan")], 1), ([float("inf")], 1)])
def test_what_cannot_be_scheduled_is_refused(seconds, devices):
    with pytest.raises(ValueError, match=r"at least 1|finite"):
        simulate(seconds, devices)
