"""Batches: the right pixels, keyed by (seed, epoch) alone."""

import pytest
import torch
from torchvision.transforms import functional as TF

from datamodules import DataError
from datamodules.batches import Batches, channel_statistics, check_parts, default_made_at_once

COUNT = 37


@pytest.fixture(scope="module")
def images():
    return torch.randint(0, 256, (COUNT, 8, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def batches(images, batch_size=10, **options):
    mean, std = channel_statistics(images)
    return Batches(images, torch.arange(len(images)), batch_size, mean, std, **options)


def epoch(loader, number):
    loader.set_epoch(number)
    images, labels = zip(*loader, strict=True)
    return torch.cat(images), torch.cat(labels)


def test_statistics_are_exact(images):
    mean, std = channel_statistics(images)
    pixels = images.double().div(255).flatten(0, 2)
    assert torch.allclose(mean.double(), pixels.mean(0), atol=1e-7)
    assert torch.allclose(std.double(), pixels.std(0, correction=0), atol=1e-7)


def test_evaluation_serves_every_image_in_order_normalised(images):
    loader = batches(images)
    x, y = epoch(loader, 0)
    assert len(loader) == 4
    assert torch.equal(y, torch.arange(COUNT))
    assert x.shape == (COUNT, 3, 8, 8)
    assert torch.allclose(x.mean((0, 2, 3)), torch.zeros(3), atol=1e-4)
    assert torch.allclose(x.std((0, 2, 3), correction=0), torch.ones(3), atol=1e-4)
    assert next(iter(loader))[0].is_contiguous(memory_format=torch.channels_last)


def test_crop_and_flip_are_torchvisions_on_the_same_draws(images):
    """The generator's draws, replayed: pad 4, crop at (top, left), flip; sample by sample."""
    loader = batches(images, shuffle=True, augment=True, seed=3)
    x, y = epoch(loader, 2)
    generator = torch.Generator().manual_seed(3 * 1_000_003 + 2)
    order = torch.randperm(COUNT, generator=generator)
    tops, lefts = torch.randint(0, 9, (2, COUNT), generator=generator)
    flips = torch.randint(0, 2, (COUNT,), generator=generator)
    assert torch.equal(y, order)
    mean, std = channel_statistics(images)
    for i, (index, top, left, flip) in enumerate(zip(order, tops, lefts, flips, strict=True)):
        image = TF.pad(images[index].permute(2, 0, 1), [4])
        image = TF.crop(image, int(top), int(left), 8, 8)
        image = TF.hflip(image) if flip else image
        expected = TF.normalize(image.float() / 255, mean.tolist(), std.tolist())
        assert torch.allclose(x[i], expected, atol=1e-4)


@pytest.mark.parametrize("world_size", [1, 3])
@pytest.mark.parametrize("augment", [False, True])
def test_batches_that_are_made_together_are_those_made_one_by_one(images, augment, world_size):
    """The last one is smaller, and its last part without an image."""
    for rank in range(world_size):
        options = {"shuffle": True, "augment": augment, "rank": rank, "world_size": world_size}
        alone = list(batches(images, 5, made_at_once=1, **options))
        together = list(batches(images, 5, made_at_once=3, **options))
        assert [len(labels) for _, labels in together] == [len(labels) for _, labels in alone]
        for (x, y), (expected_x, expected_y) in zip(together, alone, strict=True):
            assert torch.equal(x, expected_x)
            assert torch.equal(y, expected_y)
            assert x.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("device", "batch_size", "side", "count"),
    [("cpu", 128, 32, 1), ("cuda", 128, 32, 8), ("cuda", 64, 32, 8), ("cuda", 500, 32, 2), ("cuda", 500, 224, 1)],
)
def test_a_gpu_makes_batches_together_as_long_as_they_are_small(device, batch_size, side, count):
    assert default_made_at_once(device, batch_size * side * side) == count


def test_draws_differ_from_sample_to_sample():
    same = torch.randint(0, 256, (1, 8, 8, 3), dtype=torch.uint8).expand(64, 8, 8, 3)
    x, _ = epoch(batches(same, 64, shuffle=True, augment=True), 0)
    assert len({tuple(image.flatten().tolist()) for image in x}) > 32


def test_an_epoch_depends_on_seed_and_number_alone(images):
    fresh = batches(images, shuffle=True, augment=True, seed=1)
    used = batches(images, shuffle=True, augment=True, seed=1)
    for number in range(3):
        epoch(used, number)
    torch.manual_seed(99)
    for one, other in zip(epoch(fresh, 3), epoch(used, 3), strict=True):
        assert torch.equal(one, other)
    for loader, number in ((fresh, 4), (batches(images, shuffle=True, augment=True, seed=2), 3)):
        y = epoch(loader, number)[1]
        assert not torch.equal(y, epoch(used, 3)[1])
        assert torch.equal(y.sort().values, torch.arange(COUNT))


@pytest.mark.parametrize("batch_size", [0, -1, COUNT + 1])
def test_batch_sizes_that_do_not_fit(images, batch_size):
    with pytest.raises(DataError, match=f"batch size {batch_size} does not fit {COUNT} images"):
        batches(images, batch_size)


def test_lightning_sets_the_epoch(images, tmp_path):
    import pytorch_lightning as pl

    seen = []

    class Module(pl.LightningModule):
        def training_step(self, batch, batch_idx):
            seen.append((self.current_epoch, batch[1]))

        def configure_optimizers(self):
            return None

    loader = batches(images, shuffle=True, seed=5)
    trainer = pl.Trainer(
        max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False, default_root_dir=tmp_path,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(Module(), loader)
    for number in range(3):
        labels = torch.cat([y for e, y in seen if e == number])
        assert torch.equal(labels, epoch(loader, number)[1])


@pytest.mark.parametrize("world_size", [2, 3, 4, 8])
def test_parts_are_those_of_the_whole_batch(images, world_size):
    """The last batch has 7 images, fewer than 8 processes."""
    options = {"shuffle": True, "augment": True, "seed": 3}
    whole = batches(images, **options)
    parts = [batches(images, **options, rank=rank, world_size=world_size) for rank in range(world_size)]
    for loader in (whole, *parts):
        loader.set_epoch(2)
    assert {len(part) for part in parts} == {len(whole)}
    for (x, y), *shared in zip(whole, *parts, strict=True):
        assert torch.equal(torch.cat([part for part, _ in shared]), x)
        assert torch.equal(torch.cat([part for _, part in shared]), y)
        sizes = [len(part) for _, part in shared]
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(
    ("count", "batch_size", "world_size", "part"),
    [
        (100, 10, 3, "batch size 10 is not divisible by 3 processes"),
        (101, 10, 2, "the last batch of 101 images has 1, fewer than the 2 processes"),
    ],
)
def test_batches_that_cannot_be_shared(count, batch_size, world_size, part):
    with pytest.raises(DataError, match=part):
        check_parts(count, batch_size, world_size)


@pytest.mark.parametrize(("count", "world_size"), [(100, 10), (101, 1), (102, 2), (105, 5)])
def test_batches_that_can_be_shared(count, world_size):
    check_parts(count, 10, world_size)
