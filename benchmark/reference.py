"""The loop that users write today, as a yardstick: independent of our datamodules, recipes and LightningModule.

torchvision's transforms on PIL images, a DataLoader with two workers, float32, NCHW memory, plain SGD: what the
usual CIFAR repositories do (``kuangliu/pytorch-cifar``, ``akamaster/pytorch_resnet_cifar10``). A run with
``loop="reference"`` is trained by it, to show that ours is as accurate; ``speed`` measures it beside ours.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from itertools import islice

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmark.specs import RecipeSpec
from datamodules.array import ArrayDataModule
from lightning_modules.classifier import DivergedError

WORKERS, PREFETCHED = 2, 2
"""Processes of the DataLoader, and batches that each has ready (its default)."""

EVAL_BATCH_SIZE = 500
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
"""Of CIFAR-10, as these repositories write them."""


class PILDataset(Dataset):
    """(N, H, W, C) uint8 images and (N,) labels, as ``torchvision.datasets.CIFAR10`` serves them."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, augment: bool) -> None:
        self.images, self.labels = images, labels
        size = images.shape[1]
        augmentation = (
            [transforms.RandomCrop(size, padding=4), transforms.RandomHorizontalFlip()] if augment else []
        )
        self.transform = transforms.Compose([*augmentation, transforms.ToTensor(), transforms.Normalize(MEAN, STD)])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


def train_and_test(
    network: nn.Module,
    datamodule: ArrayDataModule,
    recipe: RecipeSpec,
    record: Callable[[Mapping[str, float]], None],
) -> dict[str, float]:
    """Train for the recipe's epochs, evaluating after each, and return ``test_loss`` and ``test_error`` (percent).

    Curves are of the held-out images if there are any, else of the test images.

    Seeds come from torch's global generator. ``record`` is called with each epoch's row of metrics.

    Raises:
        DivergedError: a loss is not finite.
    """
    arrays, limit = datamodule.arrays, recipe.limit_batches or None
    train = create_loader(
        *datamodule.training_arrays(), recipe.batch_size, shuffle=True, augment=datamodule.augment
    )
    evaluation = create_loader(*datamodule.evaluation_arrays(), EVAL_BATCH_SIZE)
    optimizer = create_optimizer(network, recipe)
    schedule = create_schedule(optimizer, recipe, min(len(train), limit or len(train)))
    for epoch in range(recipe.epochs):
        started, rate, losses = time.perf_counter(), schedule.get_last_lr()[0], []
        for images, labels in islice(train, limit):
            losses.append(train_step(network, optimizer, images, labels))
            if not math.isfinite(losses[-1]):
                raise DivergedError(f"loss is {losses[-1]} in epoch {epoch}, batch {len(losses) - 1}")
            schedule.step()
        trained = time.perf_counter()
        loss, error = evaluate(network, islice(evaluation, limit))
        record(
            {
                "epoch": epoch,
                "train_loss": sum(losses) / len(losses),
                "eval_loss": loss,
                "eval_error": error,
                "learning_rate": rate,
                "seconds": time.perf_counter() - started,
                "train_seconds": trained - started,
            }
        )
    if datamodule.validation:
        test = create_loader(arrays.test_images, arrays.test_labels, EVAL_BATCH_SIZE)
        loss, error = evaluate(network, islice(test, limit))
    if not math.isfinite(loss):
        raise DivergedError(f"loss is {loss} in the test")
    return {"test_loss": loss, "test_error": error}


def create_loader(
    images: Tensor, labels: Tensor, batch_size: int, shuffle: bool = False, augment: bool = False
) -> DataLoader:
    """Batches ((B, C, H, W) float32, (B,) int64) of (N, H, W, C) uint8 images."""
    return DataLoader(
        PILDataset(images.numpy(), labels.numpy(), augment),
        batch_size=batch_size,
        shuffle=shuffle,
        num_workers=WORKERS,
        prefetch_factor=PREFETCHED,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=True,
    )


def create_optimizer(network: nn.Module, recipe: RecipeSpec) -> torch.optim.SGD:
    """SGD over all parameters alike."""
    return torch.optim.SGD(
        network.parameters(),
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        weight_decay=recipe.weight_decay,
    )


def create_schedule(
    optimizer: torch.optim.Optimizer, recipe: RecipeSpec, steps_per_epoch: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """Of the recipe, to be moved after every batch."""
    if recipe.schedule == "one_cycle":
        return torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=recipe.learning_rate,
            total_steps=recipe.epochs * steps_per_epoch,
            cycle_momentum=False,
        )
    epochs = [round(fraction * recipe.epochs) for fraction in recipe.milestones]
    return torch.optim.lr_scheduler.MultiStepLR(optimizer, [steps_per_epoch * epoch for epoch in epochs if epoch])


def train_step(network: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> float:
    """One step of float32 training; returns the loss, as these loops do to print it."""
    device = next(network.parameters()).device
    images, labels = images.to(device), labels.to(device)
    loss = F.cross_entropy(network(images), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


@torch.no_grad()
def evaluate(network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> tuple[float, float]:
    """Mean loss and error in percent."""
    device = next(network.parameters()).device
    network.eval()
    loss = wrong = count = 0
    for images, labels in batches:
        images, labels = images.to(device), labels.to(device)
        logits = network(images)
        loss += F.cross_entropy(logits, labels, reduction="sum").item()
        wrong += (logits.argmax(1) != labels).sum().item()
        count += len(labels)
    network.train()
    return loss / count, 100 * wrong / count
