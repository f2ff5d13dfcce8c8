"""The order of an epoch: the same for any history, every image once, shared out among ranks."""

from itertools import chain, zip_longest

import pytest
import torch

from datamodules.errors import DataError
from datamodules.sampling import EpochSampler


def batches(sampler, epoch=0):
    sampler.set_epoch(epoch)
    return [[index for _, index in batch] for batch in sampler]


def test_an_epoch_does_not_depend_on_those_before():
    sampler = EpochSampler(torch.arange(20), 6, shuffle=True, seed=3)
    fresh = EpochSampler(torch.arange(20), 6, shuffle=True, seed=3)
    first = batches(sampler, 0)
    assert batches(sampler, 5) == batches(fresh, 5) != first
    assert batches(EpochSampler(torch.arange(20), 6, shuffle=True, seed=4), 0) != first
    assert sorted(chain(*first)) == list(range(20))
    assert [len(b) for b in first] == [6, 6, 6, 2]
    assert [key[0] for batch in sampler for key in batch] == [5] * 20


def test_evaluation_keeps_the_order():
    assert batches(EpochSampler(torch.tensor([5, 7, 9]), 2, shuffle=False)) == [[5, 7], [9]]


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize(("count", "size", "ranks"), [(22, 6, 1), (20, 6, 2), (20, 6, 3), (23, 8, 4), (24, 8, 2)])
def test_ranks_share_each_batch(count, size, ranks, shuffle):
    whole = batches(EpochSampler(torch.arange(count), size, shuffle))
    samplers = [EpochSampler(torch.arange(count), size, shuffle, rank=r, world_size=ranks) for r in range(ranks)]
    parts = [batches(sampler) for sampler in samplers]
    assert [len(sampler) for sampler in samplers] == [len(part) for part in parts]
    for step, shares in enumerate(zip_longest(*parts, fillvalue=[])):
        assert list(chain(*shares)) == whole[step], "contiguous parts of the global batch"
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_batch_that_cannot_be_shared_out():
    with pytest.raises(DataError, match="batch size 6 cannot be shared out equally among 4 devices"):
        EpochSampler(torch.arange(20), 6, shuffle=True, world_size=4)
    with pytest.raises(DataError, match="batch size 21 does not fit 20 images"):
        EpochSampler(torch.arange(20), 21, shuffle=True)
