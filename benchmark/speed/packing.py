"""Several runs of one small network on one device: as processes beside each other, or stacked into one model.

A network for CIFAR does not fill a GPU. What counts is finished runs per hour, whatever a single run's pace.
Shapes: S stacked seeds, B images of a batch; stacked images are (S, B, 3, 32, 32).
"""

import copy
import multiprocessing
import time
from collections.abc import Sequence
from functools import partial
from multiprocessing.synchronize import Barrier
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from benchmark.allocation import keeping_freed_memory
from benchmark.errors import UserError
from benchmark.run import create_model
from benchmark.speed.loops import NUM_CLASSES, Step, Task, bare_loop, step_on_noise
from benchmark.speed.measure import WARM_UP_STEPS, Stopwatch, run_block, synchronize, time_in_turns
from benchmark.trainer import quiet
from lightning_modules.fixed_shape import FixedShape, has_option
from lightning_modules.recipes import create_optimizer


class StackedNetwork(nn.Module):
    """S networks of one structure as one: each parameter and buffer has a leading axis of S.

    SGD works on each number alone, so an optimizer over the stack trains every seed as if it were by itself.

    Args:
        networks: S networks that differ in their values alone.

    Raises:
        ValueError: a memory_efficient network, which computes again outside of ``functional_call``.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        if has_option(networks[0], "memory_efficient"):
            raise ValueError("memory_efficient networks cannot be stacked; stack them without the option")
        self.stacked = copy.deepcopy(networks[0])
        for values, make in zip(
            stack_module_state(list(networks)), (nn.Parameter, torch.Tensor.detach), strict=True
        ):
            for name, value in values.items():
                path, _, attribute = name.rpartition(".")
                setattr(self.stacked.get_submodule(path), attribute, make(value.detach()))

    def forward(self, images: Tensor) -> Tensor:
        """(S, B, C, H, W) -> logits (S, B, num_classes)."""

        def call(parameters: dict[str, Tensor], buffers: dict[str, Tensor], batch: Tensor) -> Tensor:
            return functional_call(self.stacked, (parameters, buffers), (batch,))

        parameters, buffers = dict(self.stacked.named_parameters()), dict(self.stacked.named_buffers())
        return vmap(call, randomness="different")(parameters, buffers, images)


def stacked_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """The sum over seeds of each seed's mean cross entropy: its gradient is every seed's own.

    Args:
        logits: (S, B, num_classes).
        labels: (S, B).
    """
    count = len(labels)
    return count * F.cross_entropy(logits.float().flatten(0, 1), labels.flatten())


def stacked_loop(task: Task, seeds: int) -> Step:
    """A step of ``seeds`` runs stacked into one model, in our settings on tensors that lie ready."""
    models = [create_model(task.cell, seed, NUM_CLASSES, 3).to(task.device) for seed in range(seeds)]
    stack = StackedNetwork([model.network for model in models]).to(task.device)
    optimizer = create_optimizer(stack, models[0].recipe)
    run_stack = FixedShape(stack, task.recipe.compile)
    return step_on_noise(task, run_stack, optimizer, stacked_loss, stacked=(seeds,))


def time_stacked(task: Task, seeds: int, steps: int) -> float:
    """Seconds of a step of ``seeds`` stacked runs."""
    loops = {"stacked": (partial(stacked_loop, seeds=seeds), task)}
    return median(time_in_turns(loops, task.device, 1, steps)["stacked"])


def time_processes(task: Task, count: int, steps: int) -> float:
    """Seconds of a step of ``count`` processes that train at once, a run each: the slowest one's.

    Raises:
        UserError: one of them died.
    """
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(count), context.Queue()
    workers = [context.Process(target=_work, args=(task, steps, barrier, results)) for _ in range(count)]
    for worker in workers:
        worker.start()
    try:
        return max(_result(workers, results) for _ in workers)
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()


def _work(task: Task, steps: int, barrier: Barrier, results: Any) -> None:
    step, watch = bare_loop(task), Stopwatch(task.device)
    with quiet(), keeping_freed_memory():
        for _ in range(WARM_UP_STEPS):
            step()
        synchronize(task.device)
        barrier.wait()
        run_block(step, watch, steps)
    results.put(median(watch.seconds))
    barrier.wait()


def _result(workers: Sequence[Any], results: Any) -> float:
    """The next worker's seconds.

    Raises:
        UserError: as soon as a worker has died, such as for want of memory.
    """
    while results.empty():
        if dead := [worker.exitcode for worker in workers if worker.exitcode]:
            raise UserError(f"a measured process ended with exit code {dead[0]}; its output is above")
        time.sleep(0.05)
    return results.get()
