"""The loops that are measured side by side, each as a function that makes one training step.

Shapes: images (B, 3, 32, 32), labels (B,). The images are noise: time does not depend on what they show.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmark import reference
from benchmark.run import create_model
from benchmark.specs import Cell, DataSpec, NetworkSpec, RecipeSpec
from datamodules.array import ArrayDataModule, Arrays
from lightning_modules.recipes import create_optimizer

NUM_CLASSES, IMAGE_SIZE = 10, 32
NUM_IMAGES = 8192

Step = Callable[[], None]


@dataclass(frozen=True)
class Task:
    """What is trained, and how: a network under a resolved recipe on a device ("cpu" or "cuda")."""

    network: NetworkSpec
    recipe: RecipeSpec
    device: str

    @property
    def cell(self) -> Cell:
        return Cell("speed", self.network.name, "noise", "speed", self.network, DataSpec("noise"), self.recipe)


class NoiseDataModule(ArrayDataModule):
    """Random images in CIFAR's shape, cropped and flipped as in training."""

    def __init__(self, batch_size: int) -> None:
        super().__init__(batch_size, augment=True)

    def load(self) -> Arrays:
        generator = torch.Generator().manual_seed(0)
        shape = (NUM_IMAGES, IMAGE_SIZE, IMAGE_SIZE, 3)
        images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        labels = torch.randint(0, NUM_CLASSES, (NUM_IMAGES,), generator=generator)
        names = tuple(map(str, range(NUM_CLASSES)))
        return Arrays(images, labels, images[:NUM_CLASSES], torch.arange(NUM_CLASSES), names)


def reference_loop(task: Task) -> Step:
    """The usual loop (``reference.py``): PIL, DataLoader, float32, NCHW."""
    datamodule = NoiseDataModule(task.recipe.batch_size)
    datamodule.setup()
    network = create_model(task.cell, 0, NUM_CLASSES, 3).network
    network = network.to(task.device, memory_format=torch.contiguous_format)
    loader = reference.create_loader(
        *datamodule.training_arrays(), task.recipe.batch_size, shuffle=True, augment=True
    )
    optimizer = reference.create_optimizer(network, task.recipe)
    batches = _forever(loader)
    return lambda: reference.train_step(network, optimizer, *next(batches))


def bare_loop(task: Task) -> Step:
    """Our settings on tensors that lie ready: what no data, no logging and no Lightning would give."""
    model = create_model(task.cell, 0, NUM_CLASSES, 3).to(task.device)
    optimizer = create_optimizer(model.network, model.recipe)
    images = torch.randn(task.recipe.batch_size, 3, IMAGE_SIZE, IMAGE_SIZE, device=task.device)
    labels = torch.randint(0, NUM_CLASSES, (task.recipe.batch_size,), device=task.device)

    def step() -> None:
        with torch.autocast(task.device, torch.bfloat16, enabled=task.recipe.precision == "bf16-mixed"):
            logits = model(images)
        loss = F.cross_entropy(logits.float(), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def _forever(loader: torch.utils.data.DataLoader) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        yield from loader
