"""Time and memory of training steps, measured so that a noisy machine does not decide.

Loops are interleaved in blocks of a few steps, so that a slow minute slows all; medians over a process's blocks are
compared. Our own path is driven by Lightning's Trainer, so the others run inside a callback of it. On a CPU all
this is done in several processes (``processes.py``), since a loop may be faster or slower for as long as its
process lives.
"""

import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import pytorch_lightning as pl
import torch

from benchmark import machine, reference
from benchmark.allocation import keeping_freed_memory
from benchmark.checkpoints import EpochRecorder
from benchmark.gradients import GradientNorms
from benchmark.run import EpochClock, create_model
from benchmark.speed.loops import (
    NUM_CLASSES,
    NoiseDataModule,
    Step,
    Task,
    bare_loop,
    reference_loop,
    torchvision_loop,
)
from benchmark.trainer import create_trainer, quiet
from datamodules.batches import MADE_AT_ONCE

WARM_UP_STEPS = 3
PHASE_STEPS = max(MADE_AT_ONCE.values())
"""So that the phases hold the making of as many batches as they use."""
PEAK_STEPS = 3
REFILL_SECONDS = 0.2
"""Enough for the reference's workers to fill their queue again, before another loop is measured."""

READY_STEPS = reference.WORKERS * reference.PREFETCHED
"""Those of a full queue. On a GPU, whose steps outrun the workers, they are made before the reference is timed."""

PHASES = ("data", "forward", "backward", "optimizer")

Loop = tuple[Callable[[Task], Step], Task]
"""What makes a loop's step, and of what: both can be sent to another process."""


@dataclass
class Stopwatch:
    """Seconds of each step. On a GPU, where steps overlap, a block is timed as a whole and shared out."""

    device: str
    seconds: list[float] = field(default_factory=list)

    def start(self) -> None:
        synchronize(self.device)
        self.last, self.steps = time.perf_counter(), 0

    def lap(self) -> None:
        self.steps += 1
        if self.device == "cpu":
            now = time.perf_counter()
            self.seconds.append(now - self.last)
            self.last = now

    def stop(self) -> None:
        if self.device != "cpu":
            synchronize(self.device)
            self.seconds += [(time.perf_counter() - self.last) / self.steps] * self.steps


@dataclass(frozen=True)
class Timing:
    """Seconds of each step by loop, and the mean seconds of a step of our path by phase.

    On a GPU several batches are made at once, so that the median step's data would take no time.
    """

    seconds: Mapping[str, list[float]]
    phases: Mapping[str, float]


class _Measured(Exception):  # noqa: N818
    """Enough steps: ends the Trainer's loop."""


class Turns(pl.Callback):
    """Lets other loops take turns with the Trainer that it is a callback of, then splits our steps by phase."""

    def __init__(self, others: Mapping[str, Step], device: str, blocks: int, steps: int) -> None:
        self.others, self.device, self.blocks, self.steps = others, device, blocks, steps
        self.watches = {name: Stopwatch(device) for name in ("ours", *others)}
        self.phases: dict[str, list[float]] = {name: [] for name in PHASES}
        self.warm = self.block = self.phase_steps = 0

    def on_train_batch_start(self, *_: Any) -> None:
        self._end_phase("data")

    def on_before_backward(self, *_: Any) -> None:
        self._end_phase("forward")

    def on_after_backward(self, *_: Any) -> None:
        self._end_phase("backward")

    def on_train_batch_end(self, *_: Any) -> None:
        ours = self.watches["ours"]
        if self.warm < WARM_UP_STEPS:
            self.warm += 1
            if self.warm == WARM_UP_STEPS:
                ours.start()
        elif self.block < self.blocks:
            ours.lap()
            if ours.steps == self.steps:
                ours.stop()
                self._let_others_run()
                self.block += 1
                if self.device == "cuda" and self.block < self.blocks:
                    self.warm = 0
                else:
                    ours.start()
        else:
            self._end_phase("optimizer")
            self.phase_steps += 1
            if self.phase_steps == PHASE_STEPS:
                raise _Measured
        if self.block == self.blocks:
            synchronize(self.device)
            self.marked = time.perf_counter()

    def _let_others_run(self) -> None:
        for name, step in self.others.items():
            if name == "reference" and self.device == "cuda":
                for _ in range(READY_STEPS):
                    step()
            run_block(step, self.watches[name], self.steps)
            time.sleep(REFILL_SECONDS if name == "reference" else 0)

    def _end_phase(self, name: str) -> None:
        if self.block == self.blocks:
            synchronize(self.device)
            now = time.perf_counter()
            self.phases[name].append(now - self.marked)
            self.marked = now


def forget_first_steps(task: Task) -> None:
    """On a GPU, whose compiler tries its kernels in them on buffers of its own.

    Not with CUDA graphs: what a replay needs was allocated when they were captured, in these steps.
    """
    has_graphs = isinstance(task.recipe.compile, str)
    if task.device == "cuda" and not has_graphs:
        machine.reset_peak_memory(task.device)


class SteadyPeak(pl.Callback):
    """Ends the Trainer's loop after a few steps, of which the first are forgotten."""

    def __init__(self, task: Task) -> None:
        self.task, self.steps = task, 0

    def on_train_batch_end(self, *_: Any) -> None:
        self.steps += 1
        if self.steps == WARM_UP_STEPS:
            forget_first_steps(self.task)
        elif self.steps == WARM_UP_STEPS + PEAK_STEPS:
            raise _Measured


def whole_groups(device: str, steps: int) -> int:
    """``steps`` rounded up to a multiple of the batches made at once, so that a block makes as many as it uses."""
    together = MADE_AT_ONCE.get(device, 1)
    return -(-steps // together) * together


def steps_within(device: str, blocks: int, steps: int) -> int:
    """Steps of our path that a measurement takes; on a GPU each block is warmed up."""
    warm_ups = blocks if device == "cuda" else 1
    return warm_ups * WARM_UP_STEPS + blocks * steps + PHASE_STEPS


def time_loops(task: Task, blocks: int, steps: int) -> Timing:
    """The reference, the bare loop and our full path, ``blocks`` times ``steps`` steps of each."""
    # a capture of CUDA graphs would be disturbed by the reference's workers, which start at its first step
    others = {"bare": bare_loop(task), "reference": reference_loop(task)}
    for step in others.values():
        for _ in range(WARM_UP_STEPS):
            step()
    turns = Turns(others, task.device, blocks, steps)
    try:
        train_through_lightning(task, turns)
    finally:
        others.clear()  # left to the collector of cycles, the reference's workers would be waited for 10 seconds
    return Timing(
        {name: watch.seconds for name, watch in turns.watches.items()},
        {name: fmean(seconds) for name, seconds in turns.phases.items()},
    )


def time_in_turns(loops: Mapping[str, Loop], device: str, blocks: int, steps: int) -> dict[str, list[float]]:
    """Seconds of each of ``blocks`` times ``steps`` steps of several loops, which take turns."""
    made = {name: create(task) for name, (create, task) in loops.items()}
    watches = {name: Stopwatch(device) for name in made}
    with keeping_freed_memory():
        for step in made.values():
            for _ in range(WARM_UP_STEPS):
                step()
        for _ in range(blocks):
            for name, step in made.items():
                run_block(step, watches[name], steps)
    return {name: watch.seconds for name, watch in watches.items()}


def run_block(step: Step, watch: Stopwatch, steps: int) -> None:
    """``steps`` steps against the watch; on a GPU, which idled or ran another loop, after a few that warm it up."""
    if watch.device == "cuda":
        for _ in range(WARM_UP_STEPS):
            step()
    watch.start()
    for _ in range(steps):
        step()
        watch.lap()
    watch.stop()


def train_through_lightning(task: Task, callback: pl.Callback) -> None:
    """Our full path, metrics and checkpoint callback included, until ``callback`` has had enough."""
    model = create_model(task.cell, 0, NUM_CLASSES, 3)
    with tempfile.TemporaryDirectory() as folder:
        recorder = EpochRecorder(Path(folder), "speed", [], [], lambda epoch, metrics: None)
        callbacks = [EpochClock(0, task.device), GradientNorms(), callback, recorder]
        trainer = create_trainer(task.recipe, task.device, Path(folder), callbacks)
        try:
            with quiet(), keeping_freed_memory():
                trainer.fit(model, datamodule=NoiseDataModule(task))
        except _Measured:
            return
        except SystemExit as error:  # what Lightning makes of Ctrl-C
            raise KeyboardInterrupt from error
    raise RuntimeError("the epochs ended before the steps were measured")


def peak_memory(task: Task, loop: str) -> tuple[int, int] | None:
    """Bytes at the peak of a few steps, and before anything of the loop was made; in a process of its own.

    On a CPU of the process (without a DataLoader's workers), on a GPU of what was allocated there. None where the
    system does not tell.
    """
    machine.reset_peak_memory(task.device)
    before = machine.peak_memory(task.device)
    if before is None:
        return None
    if loop == "ours":
        train_through_lightning(task, SteadyPeak(task))
    else:
        step = {"reference": reference_loop, "bare": bare_loop, "torchvision": torchvision_loop}[loop](task)
        with nullcontext() if loop == "reference" else keeping_freed_memory():
            for _ in range(WARM_UP_STEPS):
                step()
            forget_first_steps(task)
            for _ in range(PEAK_STEPS):
                step()
    return machine.peak_memory(task.device), before


def synchronize(device: str) -> None:
    """Wait for the GPU; a CPU is never behind."""
    if device == "cuda":
        torch.cuda.synchronize()
