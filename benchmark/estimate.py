"""How long a run will take, from a few measured steps."""

import time
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

from benchmark.allocation import keeping_freed_memory
from benchmark.data import Source
from benchmark.run import create_model
from benchmark.specs import Cell
from datamodules import array, imagenet
from lightning_modules.recipes import create_optimizer

STEPS, BUDGET_SECONDS = 4, 3.0
FORWARD_SHARE = 1 / 3
"""An evaluated image costs about a third of a trained one."""

CPU_BATCH_PIXELS = 2**20
"""Measured at once on a CPU, whose time grows with the batch; 256 photographs may be more than memory holds."""


def seconds_per_image(cell: Cell, num_classes: int, image_shape: Sequence[int], device: str) -> float:
    """Time of a training step on random images, divided by its batch; of one device's part, if several share it.

    On a CPU a large batch of large images is measured by a part of it.

    The fastest of a few steps after a first one that warms up: what else the machine does makes steps slower, never
    faster, and the first compiles or captures. Large networks stop at two steps.
    """
    batch = cell.recipe.batch_size // cell.recipe.devices
    if device == "cpu":
        batch = max(1, min(batch, CPU_BATCH_PIXELS // (image_shape[1] * image_shape[2])))
    model = create_model(cell, 0, num_classes, image_shape[0]).to(device)
    optimizer = create_optimizer(model.network, model.recipe)
    clock = _clock(device)
    images = torch.rand(batch, *image_shape, device=device)
    labels = torch.zeros(batch, dtype=torch.long, device=device)
    times: list[float] = []
    with keeping_freed_memory():
        while len(times) < 2 or (len(times) < STEPS and sum(times[1:]) < BUDGET_SECONDS):
            started = clock()
            with torch.autocast(device, torch.bfloat16, enabled=cell.recipe.precision == "bf16-mixed"):
                logits = model(images)
            F.cross_entropy(logits.float(), labels).backward()
            optimizer.step()
            optimizer.zero_grad()
            if device == "cuda":
                torch.cuda.synchronize()
            times.append(clock() - started)
    return min(times[1:]) / batch


def _clock(device: str) -> Callable[[], float]:
    """Wall time; of one thread on a CPU its processor time, which other work on the machine does not lengthen."""
    alone = device == "cpu" and torch.get_num_threads() == 1
    return time.process_time if alone else time.perf_counter


def seconds_per_run(cell: Cell, source: Source, per_image: float) -> float:
    """Training and one evaluation an epoch."""
    recipe = cell.recipe
    train, test = source.num_train - cell.data.validation, cell.data.validation or source.num_test
    if recipe.limit_batches:
        train = min(train, recipe.limit_batches * recipe.batch_size)
        test = min(test, recipe.limit_batches * (imagenet if recipe.image_size else array).EVAL_BATCH_SIZE)
    return recipe.epochs * per_image * (train + FORWARD_SHARE * test)
