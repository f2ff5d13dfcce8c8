"""Batches from a uint8 array in memory, with per-sample crop and flip.

Shapes: N images of H x W pixels and C colours; arrays are (N, H, W, C) uint8, batches (B, C, H, W) float32 in
channels_last memory. Everything lives on one device; no step waits for the host.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from datamodules.errors import DataError
from datamodules.sampling import epoch_seed

PADDING = 4
MADE_AT_ONCE = {"cuda": 8}
"""Batches made by one call of each operation, where every call costs the host as much as a small batch the GPU."""

PIXELS_AT_ONCE = 2**20
"""In no more than this many pixels: eight batches of 128 of CIFAR's images."""


class Batches:
    """An iterable of (images, labels), one epoch a pass.

    All of an epoch's random draws come from a generator keyed by (seed, epoch), so an epoch is the same whatever
    came before it: a run resumed at the end of an epoch sees the batches of an uninterrupted one. Lightning sets
    the epoch through ``sampler``; other loops call ``set_epoch``.

    Processes that share the training each take a contiguous part of every batch: all draw the same for the whole
    batch, so that images, crops and flips are those of one process. Parts differ by at most one image.

    Args:
        images: (N, H, W, C) uint8.
        labels: (N,) int64.
        batch_size: B; the last batch may be smaller.
        mean, std: per colour, in units of the full range [0, 1].
        shuffle: a new order each epoch.
        augment: crop each image at random from itself padded with 4 black pixels, and flip half of them.
        seed: of the generator.
        device: where the arrays live and the batches are made.
        rank, world_size: which part of each batch to serve, and of how many; the last batch's may be empty.
        made_at_once: batches that are made together; by default ``default_made_at_once``.

    Raises:
        DataError: ``batch_size`` is not in 1, ..., N.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        batch_size: int,
        mean: Tensor,
        std: Tensor,
        shuffle: bool = False,
        augment: bool = False,
        seed: int = 0,
        device: torch.device | str = "cpu",
        rank: int = 0,
        world_size: int = 1,
        made_at_once: int | None = None,
    ) -> None:
        if not 1 <= batch_size <= len(images):
            raise DataError(f"batch size {batch_size} does not fit {len(images)} images; it must be from 1 to that")
        self.height, self.width = images.shape[1:3]
        self.padding = PADDING if augment else 0
        p = self.padding
        self.images = F.pad(images.to(device), (0, 0, p, p, p, p)).contiguous()
        self.labels = labels.to(device)
        self.batch_size, self.shuffle, self.augment, self.seed = batch_size, shuffle, augment, seed
        self.rank, self.world_size = rank, world_size
        pixels = batch_size * self.height * self.width
        self.made_at_once = made_at_once or default_made_at_once(self.labels.device.type, pixels)
        self.scale = (1 / (255 * std)).to(device)
        self.shift = (-mean / std).to(device)
        self.epoch = 0
        self.sampler, self.batch_sampler = self, None  # where Lightning looks for set_epoch

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next pass serves."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-len(self.labels) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(epoch_seed(self.seed, self.epoch))
        count = len(self.labels)
        order = torch.randperm(count, generator=generator) if self.shuffle else torch.arange(count)
        tops, lefts = torch.randint(0, 2 * self.padding + 1, (2, count), generator=generator)
        flips = torch.randint(0, 2, (count,), generator=generator) * self.augment
        draws = torch.stack([order, tops, lefts, flips]).to(self.labels.device)
        parts = [batch.tensor_split(self.world_size, 1)[self.rank] for batch in draws.split(self.batch_size, 1)]
        for first in range(0, len(parts), self.made_at_once):
            together = parts[first : first + self.made_at_once]
            index, *crops = torch.cat(together, 1)
            sizes = [part.shape[1] for part in together]
            images, labels = self._normalize(self._gather(index, *crops)), self.labels[index]
            yield from zip(images.split(sizes), labels.split(sizes), strict=True)

    def _gather(self, index: Tensor, top: Tensor, left: Tensor, flip: Tensor) -> Tensor:
        """(B,) sample, offsets and flips -> (B, H, W, C) uint8, as one gather of whole pixels."""
        if not self.augment:
            return self.images[index]
        columns = torch.arange(self.width, device=index.device)
        columns = torch.where(flip[:, None].bool(), columns.flip(0), columns) + left[:, None]
        rows = torch.arange(self.height, device=index.device) + top[:, None]
        height, width, colours = self.images.shape[1:]
        pixels = (index[:, None, None] * height + rows[:, :, None]) * width + columns[:, None, :]
        return self.images.view(-1, colours).index_select(0, pixels.flatten()).view(*pixels.shape, colours)

    def _normalize(self, images: Tensor) -> Tensor:
        """(B, H, W, C) uint8 -> (B, C, H, W) float32, zero mean and unit variance."""
        return torch.addcmul(self.shift, images.float(), self.scale).permute(0, 3, 1, 2)


def default_made_at_once(device: str, pixels: int) -> int:
    """How many batches of so many pixels each are made together: one on a CPU."""
    return max(1, min(MADE_AT_ONCE.get(device, 1), PIXELS_AT_ONCE // pixels))


def check_parts(count: int, batch_size: int, world_size: int) -> None:
    """Whether ``world_size`` processes can share the training on ``count`` images.

    Raises:
        DataError: a batch cannot be divided equally, or an epoch's last one leaves a process without an image.
    """
    if batch_size % world_size:
        raise DataError(f"batch size {batch_size} is not divisible by {world_size} processes")
    last = count % batch_size
    if 0 < last < world_size:
        raise DataError(f"the last batch of {count} images has {last}, fewer than the {world_size} processes")


def channel_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Exact mean and standard deviation of each colour of (N, H, W, C) uint8, in units of [0, 1], float32."""
    levels = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for c in range(images.shape[-1]):
        histogram = torch.bincount(images[..., c].flatten(), minlength=256).double()
        share = histogram / histogram.sum()
        mean = (share * levels).sum()
        means.append(mean)
        stds.append((share * (levels - mean) ** 2).sum().sqrt())
    return torch.stack(means).float(), torch.stack(stds).float().clamp_min(1e-6)
