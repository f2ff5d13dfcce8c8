"""ImageNet, or any folder of photographs in classes: read from disk while a network trains."""

import os
from functools import cached_property
from numbers import Integral
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.environments import SLURMEnvironment
from torch import Tensor

from datamodules.archives import extract_archives
from datamodules.array import check_numbers, is_overfitting, split_validation
from datamodules.batches import check_parts
from datamodules.cache import cache_folder, user_path
from datamodules.errors import DataError
from datamodules.listing import Listing, Split, list_images
from datamodules.resized import ResizedImages, resize_all, resized_path
from datamodules.sampling import EpochSampler
from datamodules.streams import ImageFiles, ImageStream, Photographs, Pixels, resized_side

IMAGE_SIZE = 224
MOST_PIXELS = 2048
MOST_WORKERS = 16


EVAL_BATCH_SIZE = 128


class ImageNetDataModule(pl.LightningDataModule):
    """Photographs in ``train/<class>/`` and ``val/<class>/`` (or ``test/``), or ImageNet's official archives.

    Training images are cropped at random (RandomResizedCrop) and flipped, evaluation takes the central crop.
    Archives are extracted beside themselves once, by ``prepare_data``. What has ImageNet's class names must be all
    of ImageNet.

    ``val_dataloader`` serves the held-out training images if ``validation`` > 0. Otherwise it serves the test
    images (ImageNet's validation set), to draw a curve from and never to select by.

    Args:
        data_dir: the folder.
        image_size: pixels of the crop's side.
        batch_size: of training, over all devices.
        augment: crop at random and flip; else training images are cropped as in evaluation.
        validation: training images held out, the same for every seed.
        seed: of the order and the augmentation.
        eval_batch_size: of validation and test, over all devices.
        resized: read images from a cache in which they are resized beforehand, to the shorter side that evaluation
            takes its crop from (256 for 224).
        subset: accept a part of ImageNet; its name says so.
        cache_dir: of the resized images; by default as ``cache_folder``.
        workers: processes that read and crop; by default ``$OIN_WORKERS``, or one a core, shared by the devices of
            a machine, and at most 16. 0 reads in this process.

    Raises:
        DataError: a number is out of range, or (from ``prepare_data``, ``setup`` and ``identity``) the images
            cannot be used; see ``list_images``.
    """

    def __init__(
        self,
        data_dir: str | Path,
        image_size: int = IMAGE_SIZE,
        batch_size: int = 256,
        augment: bool = True,
        validation: int = 0,
        seed: int = 0,
        eval_batch_size: int = EVAL_BATCH_SIZE,
        resized: bool = False,
        subset: bool = False,
        cache_dir: str | Path | None = None,
        workers: int | None = None,
    ) -> None:
        super().__init__()
        check_numbers(batch_size=batch_size, eval_batch_size=eval_batch_size, validation=validation, seed=seed)
        if not (isinstance(image_size, Integral) and 1 <= image_size <= MOST_PIXELS):
            raise DataError(f"image size {image_size} is not from 1 to {MOST_PIXELS:,} pixels; 224 is usual")
        self.data_dir, self.image_size, self.augment = user_path(data_dir), image_size, augment
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.validation, self.seed = validation, seed
        self.resized, self.subset, self.cache_dir = resized, subset, cache_folder(cache_dir)
        self.workers = asked_workers() if workers is None else workers
        if self.workers is not None:
            check_numbers(workers=self.workers)

    @cached_property
    def listing(self) -> Listing:
        """What was there when it was asked for first."""
        return list_images(self.data_dir, self.subset)

    @property
    def identity(self) -> dict[str, str]:
        """``name``, ``source`` and ``checksum`` of the data; the checksum is of names and sizes."""
        listing = self.listing
        resized = f" (pre-resized to {resized_side(self.image_size)})" if self.resized else ""
        folders = f"{listing.train.folder.name} and {listing.test.folder.name}"
        return {
            "name": listing.name + resized,
            "source": f"folders {folders}, {listing.format}, known by names and sizes",
            "checksum": listing.checksum,
        }

    def prepare_data(self) -> None:
        extract_archives(self.data_dir)
        if self.resized:
            resize_all(self.listing, resized_side(self.image_size), self.cache_dir, usable_cores())

    def setup(self, stage: str | None = None) -> None:
        """Raises:
        DataError: more images are held out than there are.
        """
        _ = self.split

    @cached_property
    def split(self) -> tuple[Tensor, Tensor]:
        """Indices of the held-out and of the other training images."""
        return split_validation(len(self.listing.train), self.validation)

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.listing.class_names

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return 3, self.image_size, self.image_size

    @property
    def num_train(self) -> int:
        """Images that are trained on, without the held-out ones."""
        return len(self.listing.train) - self.validation

    @property
    def num_test(self) -> int:
        return len(self.listing.test)

    def training_images(self) -> Photographs:
        """What training batches are made by, from keys (epoch, index); the held-out images are among them."""
        return self._images(self.listing.train, self.augment)

    def train_dataloader(self) -> ImageStream:
        """Raises:
        DataError: the Trainer's processes cannot share a batch.
        """
        check_parts(self.num_train, self.batch_size, self.trainer.world_size if self.trainer else 1)
        return self._stream(self.training_images(), self.split[1], self.batch_size, training=True)

    def val_dataloader(self) -> ImageStream:
        if self.validation:
            return self._stream(self._images(self.listing.train), self.split[0], self.eval_batch_size)
        return self.test_dataloader()

    def test_dataloader(self) -> ImageStream:
        images = self._images(self.listing.test)
        return self._stream(images, torch.arange(len(images)), self.eval_batch_size)

    def predict_dataloader(self) -> ImageStream:
        """The test images, with their labels."""
        return self.test_dataloader()

    def _images(self, split: Split, augment: bool = False) -> Photographs:
        return Photographs(self._pixels(split), split.labels, self.image_size, augment, self.seed)

    def _stream(self, images: Photographs, indices: Tensor, batch_size: int, training: bool = False) -> ImageStream:
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        if not training:
            batch_size = min(batch_size, len(indices)) // world_size * world_size or world_size
        shuffle = training and not is_overfitting(self)
        sampler = EpochSampler(indices, batch_size, shuffle, self.seed, rank, world_size)
        device: Any = self.trainer.strategy.root_device if self.trainer else "cpu"
        return ImageStream(images, sampler, self._workers(), device)

    def _pixels(self, split: Split) -> Pixels:
        if not self.resized:
            return ImageFiles(split)
        listing = self.listing
        path = resized_path(listing, resized_side(self.image_size), self.cache_dir)
        return ResizedImages(path, 0 if split is listing.train else len(listing.train))

    def _workers(self) -> int:
        if self.workers is not None:
            return self.workers
        return max(1, min(self._cores(), MOST_WORKERS))

    def _cores(self) -> int:
        """This process's share of the cores; SLURM says what each task has, others share what they may run on."""
        environment = getattr(self.trainer.strategy, "cluster_environment", None) if self.trainer else None
        own = os.environ.get("SLURM_CPUS_PER_TASK", "")
        if isinstance(environment, SLURMEnvironment) and own.isdecimal():
            return min(int(own), usable_cores())
        return usable_cores() // (self.trainer.num_devices if self.trainer else 1)


def asked_workers() -> int | None:
    """Worker processes of each device by ``$OIN_WORKERS``, or None without it.

    Raises:
        DataError: it is no count.
    """
    if not (asked := os.environ.get("OIN_WORKERS")):
        return None
    if not asked.isascii() or not asked.isdigit():
        raise DataError(f"OIN_WORKERS is {asked!r}; it must be a number of processes, 0 or more")
    return int(asked)


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
