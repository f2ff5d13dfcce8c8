"""The loops that are measured side by side, each as a function that makes one training step.

Shapes: images (B, 3, S, S), S = 32, or 224 for ImageNet's networks; labels (B,). The images are noise: time does
not depend on what they show.
"""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from benchmark import reference
from benchmark.run import create_model
from benchmark.specs import Cell, DataSpec, NetworkSpec, RecipeSpec
from datamodules.array import ArrayDataModule, Arrays
from lightning_modules.fixed_shape import FixedShape
from lightning_modules.networks import network_purpose
from lightning_modules.networks.dense_blocks import DenseLayer
from lightning_modules.networks.registry import Purpose
from lightning_modules.recipes import create_optimizer

COLOURS = 3
NUM_CLASSES, IMAGE_SIZE = 10, 32
NUM_IMAGES = {"cpu": 8192, "cuda": 50_000}
"""Of noise at least, and enough for all steps of a measurement, so that no epoch ends within. A GPU's memory holds
them, so there they are as many as CIFAR's."""

TORCHVISION = {
    **{f"imagenet_{structure}{n}": f"resnet{n}" for structure in ("resnet", "hbnet") for n in (18, 34, 50)},
    **{f"imagenet_{structure}121": "densenet121" for structure in ("densenet", "agdnet")},
}
"""torchvision's model of the same architecture, or of that which the structure is built on."""

Step = Callable[[], None]


@dataclass(frozen=True)
class Task:
    """What is trained, and how: a network under a resolved recipe on a device ("cpu" or "cuda").

    ``images``: an epoch of our path and of the usual loop, whole batches.
    """

    network: NetworkSpec
    recipe: RecipeSpec
    device: str
    images: int

    @property
    def purpose(self) -> Purpose:
        return network_purpose(self.network.name)

    @property
    def cell(self) -> Cell:
        return Cell("speed", self.network.name, "noise", "speed", self.network, DataSpec("noise"), self.recipe)


class NoiseDataModule(ArrayDataModule):
    """Random images in CIFAR's shape, cropped and flipped as in training."""

    def __init__(self, task: Task) -> None:
        super().__init__(task.recipe.batch_size, augment=True)
        self.count = task.images

    def load(self) -> Arrays:
        generator = torch.Generator().manual_seed(0)
        shape = (self.count, IMAGE_SIZE, IMAGE_SIZE, COLOURS)
        images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        labels = torch.randint(0, NUM_CLASSES, (self.count,), generator=generator)
        names = tuple(map(str, range(NUM_CLASSES)))
        return Arrays(images, labels, images[:NUM_CLASSES], torch.arange(NUM_CLASSES), names)


def reference_loop(task: Task) -> Step:
    """The usual loop (``reference.py``): PIL, DataLoader, float32, NCHW, nothing compiled, usual batch norms."""
    usual = dataclasses.replace(task.recipe, compile=False, channels_last=False)
    task = dataclasses.replace(task, recipe=usual)
    datamodule = NoiseDataModule(task)
    datamodule.setup()
    network = create_model(task.cell, 0, NUM_CLASSES, COLOURS).network
    for layer in network.modules():
        if isinstance(layer, DenseLayer):  # whose own norms share their statistics
            layer.norm1 = nn.BatchNorm2d(layer.norm1.num_features)
    network.to(task.device)
    loader = reference.create_loader(
        *datamodule.training_arrays(), task.recipe.batch_size, shuffle=True, augment=True
    )
    optimizer = reference.create_optimizer(network, task.recipe)
    batches = _forever(loader)
    return lambda: reference.train_step(network, optimizer, *next(batches))


def bare_loop(task: Task) -> Step:
    """Our settings on preloaded tensors: the speed without data loading, logging or Lightning."""
    model = create_model(task.cell, 0, task.purpose.num_classes, COLOURS).to(task.device)
    return step_on_noise(task, model, create_optimizer(model.network, model.recipe))


def torchvision_loop(task: Task) -> Step:
    """The bare loop, settings and all, with torchvision's model (``TORCHVISION``) in the place of our network."""
    recipe = task.recipe
    torch.manual_seed(0)
    network = torchvision.models.get_model(TORCHVISION[task.network.name], weights=None)
    layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
    network.to(task.device, memory_format=layout)
    run_network = FixedShape(network, recipe.compile)
    optimizer = create_optimizer(network, dataclasses.asdict(recipe))
    return step_on_noise(task, lambda images: run_network(images.contiguous(memory_format=layout)), optimizer)


def step_on_noise(
    task: Task,
    forward: Callable[[Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    stacked: tuple[int, ...] = (),
) -> Step:
    """A step on tensors that lie ready; ``stacked`` are axes of images and labels before that of the batch."""
    size, classes = task.purpose
    shape = (*stacked, task.recipe.batch_size)
    images = torch.randn(*shape, COLOURS, size, size, device=task.device)
    if task.recipe.channels_last:  # as our datamodules serve them
        images = images.flatten(0, -4).contiguous(memory_format=torch.channels_last).view_as(images)
    labels = torch.randint(0, classes, shape, device=task.device)

    def step() -> None:
        with torch.autocast(task.device, torch.bfloat16, enabled=task.recipe.precision == "bf16-mixed"):
            logits = forward(images)
        optimizer.zero_grad()
        loss(logits.float(), labels).backward()
        optimizer.step()

    return step


def _forever(loader: torch.utils.data.DataLoader) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        yield from loader
