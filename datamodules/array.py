"""The datamodule that all data sets share: uint8 arrays in memory, served as ``Batches``."""

from dataclasses import dataclass
from numbers import Integral
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from datamodules.batches import Batches, channel_statistics, check_parts
from datamodules.errors import DataError

SPLIT_SEED = 20181114
"""Of the validation split: one split for all runs, whatever their seed."""

LOWEST = {"batch_size": 1, "eval_batch_size": 1, "validation": 0, "seed": 0, "image_size": 1, "workers": 0}


@dataclass(frozen=True)
class Arrays:
    """A data set in memory: images (N, H, W, C) uint8 and labels (N,) int64, training and test."""

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    class_names: tuple[str, ...]


def split_validation(count: int, validation: int) -> tuple[Tensor, Tensor]:
    """Indices of the training images that are held out and of the others, the same for every run.

    Raises:
        DataError: there are not so many.
    """
    if not 0 <= validation < count:
        raise DataError(f"cannot hold out {validation} of {count} training images; take 0 to {count - 1}")
    order = torch.randperm(count, generator=torch.Generator().manual_seed(SPLIT_SEED))
    held_out, kept = (part.sort().values for part in order.split([validation, count - validation]))
    return held_out, kept


def check_numbers(**numbers: int) -> None:
    """Raises:
    DataError: one of ``LOWEST`` is not a whole number, or out of range.
    """
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, Integral) or not LOWEST[name] <= value < 2**32:
            raise DataError(f"{name} is {value!r}; it must be a whole number from {LOWEST[name]} to 2^32 - 1")


def is_overfitting(data: pl.LightningDataModule) -> bool:
    """Whether the Trainer wants the same batches each epoch; Lightning itself sees to torch's loaders alone."""
    return bool(data.trainer and data.trainer.overfit_batches)


EVAL_BATCH_SIZE = 500


class ArrayDataModule(pl.LightningDataModule):
    """Base class; a data set defines ``identity``, ``prepare_data`` and ``load``.

    ``val_dataloader`` serves the held-out training images if ``validation`` > 0. Otherwise it serves the test
    images, to draw a curve from and never to select by.

    Under a Trainer with several processes each serves its part of every batch.

    Args:
        batch_size: of training, over all processes.
        augment: pad, crop and flip training images at random.
        validation: training images held out, the same for every seed.
        seed: of the order and the augmentation.
        eval_batch_size: of validation and test.

    Raises:
        DataError: a number is out of range, or (from ``setup``) does not fit the data.
    """

    def __init__(
        self,
        batch_size: int = 64,
        augment: bool = False,
        validation: int = 0,
        seed: int = 0,
        eval_batch_size: int = EVAL_BATCH_SIZE,
    ) -> None:
        super().__init__()
        check_numbers(batch_size=batch_size, eval_batch_size=eval_batch_size, validation=validation, seed=seed)
        self.batch_size, self.augment, self.validation, self.seed = batch_size, augment, validation, seed
        self.eval_batch_size = eval_batch_size
        self.arrays: Arrays | None = None

    @property
    def identity(self) -> dict[str, str]:
        """``name``, ``source`` and ``checksum`` of the data."""
        raise TypeError(f"{type(self).__name__} must define identity")

    def load(self) -> Arrays:
        """Read the prepared data into memory."""
        raise TypeError(f"{type(self).__name__} must define load")

    def setup(self, stage: str | None = None) -> None:
        if self.arrays is not None:
            return
        arrays = self.load()
        self.held_out, self.kept = split_validation(len(arrays.train_labels), self.validation)
        self.mean, self.std = channel_statistics(arrays.train_images)
        self.arrays = arrays

    @property
    def class_names(self) -> tuple[str, ...]:
        return self._loaded().class_names

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        height, width, colours = self._loaded().train_images.shape[1:]
        return colours, height, width

    @property
    def num_train(self) -> int:
        """Images that are trained on, without the held-out ones."""
        return len(self._loaded().train_labels) - self.validation

    @property
    def num_test(self) -> int:
        return len(self._loaded().test_labels)

    def training_arrays(self) -> tuple[Tensor, Tensor]:
        """Images (N, H, W, C) uint8 and labels (N,) that are trained on, without the held-out ones."""
        arrays = self._loaded()
        if not self.validation:
            return arrays.train_images, arrays.train_labels
        return arrays.train_images[self.kept], arrays.train_labels[self.kept]

    def evaluation_arrays(self) -> tuple[Tensor, Tensor]:
        """Images and labels that curves are drawn from: the held-out ones, or without those the test images."""
        arrays = self._loaded()
        if not self.validation:
            return arrays.test_images, arrays.test_labels
        return arrays.train_images[self.held_out], arrays.train_labels[self.held_out]

    def train_dataloader(self) -> Batches:
        """Raises:
        DataError: the Trainer's processes cannot share a batch.
        """
        check_parts(self.num_train, self.batch_size, self.trainer.world_size if self.trainer else 1)
        shuffle = not is_overfitting(self)
        return self._batches(*self.training_arrays(), self.batch_size, shuffle=shuffle, augment=self.augment)

    def val_dataloader(self) -> Batches:
        return self._batches(*self.evaluation_arrays())

    def test_dataloader(self) -> Batches:
        arrays = self._loaded()
        return self._batches(arrays.test_images, arrays.test_labels)

    def predict_dataloader(self) -> Batches:
        """The test images, with their labels."""
        return self.test_dataloader()

    def _batches(self, images: Tensor, labels: Tensor, batch_size: int | None = None, **options: Any) -> Batches:
        if self.trainer:
            options["device"] = self.trainer.strategy.root_device
            options["rank"], options["world_size"] = self.trainer.global_rank, self.trainer.world_size
        size = min(self.eval_batch_size, len(labels)) if batch_size is None else batch_size
        return Batches(images, labels, size, self.mean, self.std, seed=self.seed, **options)

    def _loaded(self) -> Arrays:
        if self.arrays is None:
            raise RuntimeError("call prepare_data() and setup() first")
        return self.arrays
