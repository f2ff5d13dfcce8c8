"""Which images each batch of an epoch is made of, on each device."""

from collections.abc import Iterator

import torch
from torch import Tensor

from datamodules.errors import DataError

Key = tuple[int, int]
"""(epoch, index): all that an image's random draws depend on, besides the seed."""


def epoch_seed(seed: int, epoch: int) -> int:
    """Of what is drawn in an epoch: no other epoch of a run has it, nor, up to a million, one of another seed."""
    return seed * 1_000_003 + epoch


class EpochSampler:
    """Batches of keys, one epoch a pass; the order comes from a generator keyed by (seed, epoch).

    So an epoch is the same whatever came before it and however many workers read it. Of each global batch every
    rank has a contiguous part; those of the last batch may differ by one image, none lost or served twice, and one
    that would be empty is left out.

    Args:
        indices: (N,) images to serve.
        batch_size: of all ranks together.
        shuffle: a new order each epoch, for training.
        seed: of the order.
        rank, world_size: which part of each batch is served.

    Raises:
        DataError: ``batch_size`` is not in 1, ..., N, or cannot be shared out equally.
    """

    def __init__(
        self, indices: Tensor, batch_size: int, shuffle: bool, seed: int = 0, rank: int = 0, world_size: int = 1
    ) -> None:
        if not 1 <= batch_size <= len(indices):
            raise DataError(
                f"batch size {batch_size} does not fit {len(indices)} images; it must be from 1 to that"
            )
        if batch_size % world_size:
            raise DataError(f"batch size {batch_size} cannot be shared out equally among {world_size} devices")
        self.indices, self.batch_size, self.shuffle, self.seed = indices, batch_size, shuffle, seed
        self.rank, self.world_size = rank, world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next pass serves."""
        self.epoch = epoch

    def __len__(self) -> int:
        full, rest = divmod(len(self.indices), self.batch_size)
        return full + (len(self._share(torch.arange(rest))) > 0)

    def __iter__(self) -> Iterator[list[Key]]:
        generator = torch.Generator().manual_seed(epoch_seed(self.seed, self.epoch))
        order = self.indices
        if self.shuffle:
            order = order[torch.randperm(len(order), generator=generator)]
        for batch in order.split(self.batch_size):
            if len(part := self._share(batch)):
                yield [(self.epoch, index) for index in part.tolist()]

    def _share(self, batch: Tensor) -> Tensor:
        return batch.tensor_split(self.world_size)[self.rank]
