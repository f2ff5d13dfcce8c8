"""Measurements in fresh processes, one after another: what a process did before moves neither times nor peaks."""

import multiprocessing
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from statistics import fmean, median
from typing import NamedTuple, TypeVar

from benchmark.parallel import end_with_the_parent
from benchmark.speed.loops import Task
from benchmark.speed.measure import PHASES, Loop, peak_memory, time_in_turns, time_loops

PROCESSES = {"cpu": 5, "cuda": 1}
"""In how many processes, one after another, loops are compared: on a CPU a ratio differs by up to 0.4 from process
to process (results/tables)."""

T = TypeVar("T")


class Times(NamedTuple):
    """Seconds of each step, by process and by loop."""

    of_processes: Sequence[Mapping[str, Sequence[float]]]

    def median(self, loop: str) -> float:
        """Seconds of a step: the median of the processes' medians."""
        return median(median(seconds[loop]) for seconds in self.of_processes)

    def ratios(self, loop: str, baseline: str) -> list[float]:
        """The ratio of the two loops' medians in each process, which a slow minute leaves as it is."""
        return [median(seconds[loop]) / median(seconds[baseline]) for seconds in self.of_processes]


def time_network(task: Task, blocks: int, steps: int) -> tuple[Times, dict[str, float]]:
    """A network's three loops in turns, in ``PROCESSES`` that share the blocks; seconds of our step by phase."""
    timings = [in_its_own_process(time_loops, task, share, steps) for share in shares(blocks, task.device)]
    phases = {phase: fmean(timing.phases[phase] for timing in timings) for phase in PHASES}
    return Times([timing.seconds for timing in timings]), phases


def time_side_by_side(loops: Mapping[str, Loop], device: str, blocks: int, steps: int) -> Times:
    """The loops in turns, in ``PROCESSES`` that share the blocks; another loop is the first in the next process."""
    names, found = list(loops), []
    for i, share in enumerate(shares(blocks, device)):
        first = i % len(names)
        turns = {name: loops[name] for name in names[first:] + names[:first]}
        found.append(in_its_own_process(time_in_turns, turns, device, share, steps))
    return Times(found)


def shares(blocks: int, device: str) -> list[int]:
    """Each process's blocks, at least one."""
    processes = min(PROCESSES[device], blocks)
    return [len(range(i, blocks, processes)) for i in range(processes)]


def in_its_own_process(measure: Callable[..., T], *arguments: object) -> T:
    """``measure(*arguments)`` in a fresh process, where nothing else has been allocated.

    A DataLoader's workers start there as they do here, not as that process itself: each would import torch anew.
    """
    usual = multiprocessing.get_start_method()
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _begin, (usual,)) as pool:
        future = pool.submit(measure, *arguments)
        try:
            return future.result()
        except KeyboardInterrupt:  # which may have come to this process alone
            for child in multiprocessing.active_children():
                child.kill()
            raise


def _begin(start_method: str) -> None:
    multiprocessing.set_start_method(start_method, force=True)
    threading.Thread(target=end_with_the_parent, daemon=True).start()


def memory_of_loop(task: Task, loop: str) -> int | None:
    """Bytes at the loop's peak beyond those before anything of it was made."""
    found = in_its_own_process(peak_memory, task, loop)
    return found[0] - found[1] if found else None
