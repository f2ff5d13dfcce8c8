"""Batches of photographs of any size, read while a network trains.

Worker processes decode and crop, since every image has a size of its own; they hand over whole batches of uint8.
Flip and normalisation happen on the device. Shapes: batches from workers (B, S, S, 3) uint8, labels and flips (B,);
served (B, 3, S, S) float32 in channels_last memory.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torchvision.transforms.v2.functional as transforms
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import RandomResizedCrop

from datamodules.decoding import decode
from datamodules.errors import DataError
from datamodules.listing import Split
from datamodules.sampling import EpochSampler, Key

CROP_AREA, CROP_RATIO = [0.08, 1.0], [3 / 4, 4 / 3]
"""Of a random crop: share of the image, and width to height."""

CROPPED_SIDE = 224 / 256
"""In evaluation the shorter side is resized to 1 / 0.875 times the crop, as 224 of 256."""

MOST_ELONGATED = 8
"""What is beyond in the longer direction never reaches the central crop, and may be more than memory holds."""

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's colours, in units of the full range [0, 1], as torchvision's models take them."""

Batch = tuple[Tensor, Tensor, Tensor]


class Pixels(Protocol):
    """Images by number."""

    def __call__(self, index: int) -> Tensor:
        """(3, H, W) uint8. Raises DataError."""


class ImageFiles:
    """The images of a split, decoded from their files."""

    def __init__(self, split: Split) -> None:
        self.split = split

    def __call__(self, index: int) -> Tensor:
        path = self.split.path(index)
        return decode(read_file(path), str(path))


def read_file(path: Path) -> bytes:
    """Raises:
    DataError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


class Photographs(Dataset):
    """Square uint8 batches of images.

    An image's crop and flip follow from (seed, epoch, index) alone: workers, ranks and resuming change nothing.

    Args:
        pixels: the images.
        labels: (N,) their classes.
        size: S, pixels of a side.
        augment: crop at random (RandomResizedCrop) and flip half of them; else take the centre.
        seed: of crops and flips.
    """

    def __init__(self, pixels: Pixels, labels: Tensor, size: int, augment: bool, seed: int = 0) -> None:
        self.pixels, self.labels, self.size, self.augment, self.seed = pixels, labels, size, augment, seed

    def __len__(self) -> int:
        return len(self.labels)

    def __getitems__(self, keys: Sequence[Key]) -> Batch | DataError:
        """A batch; an error as a value, since a worker's traceback is no message."""
        images = torch.empty(len(keys), self.size, self.size, 3, dtype=torch.uint8)
        flips = torch.zeros(len(keys), dtype=torch.bool)
        try:
            for place, (epoch, index) in enumerate(keys):
                image = self.pixels(index)
                if self.augment:
                    image, flips[place] = random_crop(image, self.size, (self.seed, epoch, index))
                else:
                    image = central_crop(image, self.size)
                images[place] = image.permute(1, 2, 0)
        except DataError as error:
            return error
        return images, self.labels[[index for _, index in keys]], flips


def random_crop(image: Tensor, size: int, key: tuple[int, int, int]) -> tuple[Tensor, bool]:
    """(3, H, W) -> a random part resized to (3, size, size), and whether to flip it; torch's own draws go on."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0]))
        box = RandomResizedCrop.get_params(image, CROP_AREA, CROP_RATIO)
        flip = bool(torch.rand(()) < 0.5)
    return transforms.resized_crop(image, *box, size=[size, size], antialias=True), flip


def central_crop(image: Tensor, size: int) -> Tensor:
    """(3, H, W) -> the centre of the image whose shorter side was resized, (3, size, size)."""
    longest = MOST_ELONGATED * min(image.shape[1:])
    image = transforms.center_crop(image, [min(side, longest) for side in image.shape[1:]])
    image = transforms.resize(image, [resized_side(size)], antialias=True)
    return transforms.center_crop(image, [size, size])


def resized_side(size: int) -> int:
    """Pixels of the shorter side from which a central crop of ``size`` is taken."""
    return round(size / CROPPED_SIDE)


class ImageStream:
    """An iterable of (images, labels) on a device, one epoch a pass; Lightning sets the epoch through ``sampler``.

    Raises:
        DataError: (while iterating) an image cannot be read; names it.
    """

    def __init__(
        self, images: Photographs, sampler: EpochSampler, workers: int, device: torch.device | str = "cpu"
    ) -> None:
        self.sampler, self.batch_sampler = sampler, None
        self.device = torch.device(device)
        mean, std = torch.tensor(MEAN), torch.tensor(STD)
        self.scale, self.shift = (1 / (255 * std)).to(device), (-mean / std).to(device)
        self.loader = DataLoader(
            images,
            batch_sampler=sampler,
            num_workers=workers,
            collate_fn=_as_it_is,
            pin_memory=self.device.type == "cuda",
            persistent_workers=workers > 0 and sampler.shuffle,
            generator=torch.Generator(),  # the workers' seeds, which nothing uses, are not drawn from torch's own
        )

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in self.loader:
            if isinstance(batch, DataError):
                raise batch
            images, labels, flips = (tensor.to(self.device, non_blocking=True) for tensor in batch)
            yield self._flip_and_normalize(images, flips), labels

    def _flip_and_normalize(self, images: Tensor, flips: Tensor) -> Tensor:
        """(B, S, S, 3) uint8 -> (B, 3, S, S) float32, zero mean and unit variance."""
        images = torch.where(flips[:, None, None, None], images.flip(2), images)
        return torch.addcmul(self.shift, images.float(), self.scale).permute(0, 3, 1, 2)


def _as_it_is(batch: Batch | DataError) -> Batch | DataError:
    return batch
