"""When a grid of runs ends on several devices: longest-first list scheduling, one run a device. Imports no torch.

Runs that wait are handed out from the longest to the shortest, each to the device that is free first (R. L.
Graham, "Bounds on multiprocessing timing anomalies", SIAM J. Appl. Math. 17, 1969). No schedule ends before the
longest run, nor before the total work shared out evenly; on m devices this one's makespan is at most 4/3 - 1/(3m)
times the optimum.
"""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

LONGEST_RUN, TOTAL_WORK, WHOLE_RUNS = "the longest run", "the total work", "whole runs do not divide evenly"
TOLERANCE = 0.05
"""A schedule that ends this close to a bound is limited by it."""


@dataclass(frozen=True)
class Schedule:
    """How long each device works; times in seconds. ``loads`` are of the devices that have a run at all."""

    devices: int
    loads: tuple[float, ...]
    longest: float

    @property
    def makespan(self) -> float:
        """From the first run's start to the last one's end."""
        return max(self.loads, default=0.0)

    @property
    def work(self) -> float:
        """Of all runs together."""
        return sum(self.loads)

    @property
    def lower_bound(self) -> float:
        """No schedule on as many devices ends earlier."""
        return max(self.longest, self.work / self.devices)

    @property
    def speed_up(self) -> float:
        """Over one device."""
        return self.work / self.makespan if self.makespan else 1.0

    @property
    def held(self) -> float:
        """Device seconds if every device is held until the last run ends."""
        return self.devices * self.makespan

    @property
    def idle_share(self) -> float:
        """Of the time held."""
        return max(0.0, 1 - self.work / self.held) if self.held else 0.0

    @property
    def limit(self) -> str:
        """What keeps the makespan from being shorter: one of the names above."""
        if self.makespan > (1 + TOLERANCE) * self.lower_bound:
            return WHOLE_RUNS
        return LONGEST_RUN if self.longest * self.devices >= self.work else TOTAL_WORK


def enough_devices(seconds: Sequence[float]) -> int:
    """The fewest devices on which the runs end with the longest one; more would not end sooner."""
    longest = max(seconds)
    count = max(1, math.ceil(sum(seconds) / longest))
    while simulate(seconds, count).makespan > longest:
        count += 1
    return count


def simulate(seconds: Sequence[float], devices: int) -> Schedule:
    """Runs of these lengths on equal devices, the longest first.

    Raises:
        ValueError: no device, or a length that is negative or not finite.
    """
    if devices < 1:
        raise ValueError(f"{devices} devices; there must be at least 1")
    if not all(0 <= s < float("inf") for s in seconds):
        raise ValueError("the length of a run must be finite and not negative")
    runs = sorted((s for s in seconds if s), reverse=True)
    loads = [0.0] * min(devices, len(runs))
    for run in runs:
        heapq.heapreplace(loads, loads[0] + run)
    return Schedule(devices, tuple(loads), max(runs, default=0.0))
