"""Photographs from disk: layouts, completeness, the same batches for any workers, and every way to be wrong."""

import os
import tarfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pytorch_lightning.plugins.environments import LightningEnvironment, SLURMEnvironment
from torchvision.transforms import v2

from datamodules import DataError, imagenet
from datamodules import listing as listings
from datamodules.decoding import decode
from datamodules.listing import list_images
from datamodules.streams import MEAN, STD, central_crop, random_crop
from tests.datamodules.photographs import SAMPLE, encode, epoch, loaded, pixels, same, write_photographs


def test_what_a_folder_holds(tmp_path):
    datamodule = loaded(write_photographs(tmp_path / "pets"))
    assert datamodule.class_names == ("cat", "dog")
    assert (datamodule.num_train, datamodule.num_test, datamodule.image_shape) == (12, 4, (3, 16, 16))
    assert datamodule.identity["name"] == "image folder pets"
    assert "names and sizes" in datamodule.identity["source"]
    assert str(tmp_path) not in str(datamodule.identity)
    images, labels = zip(*epoch(datamodule.train_dataloader()), strict=True)
    assert [len(batch) for batch in images] == [5, 5, 2]
    assert images[0].shape[1:] == (3, 16, 16)
    assert images[0].dtype == torch.float32
    assert images[0].is_contiguous(memory_format=torch.channels_last)
    assert sorted(torch.cat(labels).tolist()) == [0] * 6 + [1] * 6
    assert torch.cat([y for _, y in epoch(datamodule.test_dataloader())]).tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("is_resized", [False, True])
def test_workers_change_nothing(tmp_path, workers, is_resized):
    folder = write_photographs(tmp_path / "pets")
    alone, others = (loaded(folder, resized=is_resized, workers=n, validation=3) for n in (0, workers))
    mine, theirs = alone.train_dataloader(), others.train_dataloader()
    for number in (0, 1):
        assert same(epoch(mine, number), epoch(theirs, number))
    assert same(epoch(alone.val_dataloader()), epoch(others.val_dataloader()))


def test_an_epoch_is_the_same_after_a_restart(tmp_path):
    folder = write_photographs(tmp_path / "pets")
    stream = loaded(folder, workers=1).train_dataloader()
    seen = [epoch(stream, number) for number in (0, 1, 2)]
    assert not same(seen[0], seen[1])
    assert same(epoch(loaded(folder, workers=1).train_dataloader(), 2), seen[2])
    assert not same(epoch(loaded(folder, seed=1).train_dataloader(), 2), seen[2])


def test_an_epoch_that_was_broken_off_leaves_nothing_to_the_next(tmp_path):
    stream = loaded(write_photographs(tmp_path / "pets"), workers=2).train_dataloader()
    expected = epoch(stream, 1)
    stream.sampler.set_epoch(0)
    next(iter(stream))
    assert same(epoch(stream, 1), expected)


def test_reading_draws_nothing_from_torchs_generator(tmp_path):
    datamodule = loaded(write_photographs(tmp_path / "pets"), workers=1)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    epoch(datamodule.train_dataloader())
    epoch(loaded(tmp_path / "pets").train_dataloader())
    assert torch.equal(torch.get_rng_state(), before)


def test_evaluation_is_torchvisions(tmp_path):
    """Shorter side to 256, central 224, ImageNet's mean and standard deviation."""
    folder = write_photographs(tmp_path / "pets")
    (folder / "val/cat/0.JPEG").write_bytes(encode(pixels(3, 375, 500)))
    steps = (v2.Resize(256, antialias=True), v2.CenterCrop(224), v2.ToDtype(torch.float32, scale=True))
    usual = v2.Compose([*steps, v2.Normalize(MEAN, STD)])
    datamodule = loaded(folder, image_size=224)
    split = datamodule.listing.test
    expected = torch.stack([usual(decode(split.path(i).read_bytes(), "")) for i in range(len(split))])
    ours = torch.cat([images for images, _ in epoch(datamodule.test_dataloader())])
    assert torch.allclose(ours, expected, atol=1e-5)


def test_training_crops_are_torchvisions():
    """The same draws give the same crop, and half of the images are flipped."""
    image = decode(encode(pixels(3, 100, 140)), "")
    key = int(np.random.SeedSequence((0, 1, 2)).generate_state(1, np.uint64)[0])
    torch.default_generator.manual_seed(key)
    assert torch.equal(random_crop(image, 32, (0, 1, 2))[0], v2.RandomResizedCrop(32, antialias=True)(image))
    flips = sum(random_crop(image, 4, (0, 0, index))[1] for index in range(400))
    assert 150 < flips < 250


def test_the_device_flips(tmp_path):
    stream = loaded(write_photographs(tmp_path / "pets")).train_dataloader()
    images = torch.randint(0, 256, (2, 4, 4, 3), dtype=torch.uint8)
    kept, flipped = stream._flip_and_normalize(images, torch.tensor([False, True]))
    usual = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])
    assert torch.allclose(kept, usual(images[0].permute(2, 0, 1)), atol=1e-6)
    assert torch.allclose(flipped, usual(images[1].permute(2, 0, 1)).flip(2), atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 4000), (4000, 1), (3, 500)])
def test_extreme_shapes_are_cropped(height, width):
    """A line of 4,000 pixels, resized by its shorter side alone, would be a million pixels long."""
    image = torch.full((3, height, width), 7, dtype=torch.uint8)
    for crop in (central_crop(image, 224), random_crop(image, 224, (0, 0, 0))[0]):
        assert crop.shape == (3, 224, 224)
        assert (crop == 7).all()


def test_held_out_images_are_cropped_as_in_evaluation(tmp_path):
    datamodule = loaded(write_photographs(tmp_path / "pets"), validation=4)
    assert datamodule.num_train == 8
    held_out = epoch(datamodule.val_dataloader())
    assert sum(len(y) for _, y in held_out) == 4
    assert same(epoch(datamodule.val_dataloader(), 1), held_out)
    with pytest.raises(DataError, match="cannot hold out 12 of 12"):
        loaded(tmp_path / "pets", validation=12)


def test_a_folder_with_one_more_level_and_test_for_val(tmp_path):
    write_photographs(tmp_path / "set" / "pets-v1", val="test")
    listing = list_images(tmp_path / "set")
    assert (listing.name, listing.test.folder.name) == ("image folder pets-v1", "test")
    write_photographs(tmp_path / "set" / "zoo")
    with pytest.raises(DataError, match="several data sets, pets-v1 and zoo; give one of them"):
        list_images(tmp_path / "set")


def test_tiny_imagenet_as_it_is_unpacked(tmp_path):
    """Images a level deeper, validation images in one folder with a list, test images without classes."""
    folder = tmp_path / "tiny-imagenet-200"
    for label in ("n01443537", "n01629819"):
        (folder / "train" / label / "images").mkdir(parents=True)
        (folder / "train" / label / f"{label}_boxes.txt").write_text("")
        for i in range(3):
            (folder / "train" / label / "images" / f"{label}_{i}.JPEG").write_bytes(encode(pixels(i, 64, 64)))
    for split in ("val", "test"):
        (folder / split / "images").mkdir(parents=True)
        for i in range(2):
            (folder / split / "images" / f"{split}_{i}.JPEG").write_bytes(encode(pixels(9 + i, 64, 64)))
    lines = "val_1.JPEG\tn01443537\t0\t32\t44\t62\nval_0.JPEG\tn01629819\t52\t55\t57\t59\n"
    (folder / "val" / "val_annotations.txt").write_text(lines)
    datamodule = loaded(folder, batch_size=2, image_size=64)
    assert datamodule.identity["name"] == "image folder tiny-imagenet-200"
    assert (datamodule.num_train, datamodule.num_test, datamodule.num_classes) == (6, 2, 2)
    assert [datamodule.listing.test.path(i).name for i in range(2)] == ["val_1.JPEG", "val_0.JPEG"]
    (folder / "val" / "val_annotations.txt").write_text(lines + "val_2.JPEG\tn01443537\n")
    with pytest.raises(DataError, match=r"val_annotations\.txt, line 3"):
        list_images(folder)


def test_the_checksum_follows_names_and_sizes(tmp_path):
    folder = write_photographs(tmp_path / "pets")
    sums = {list_images(folder).checksum}
    os.rename(folder / "train/cat/0.JPEG", folder / "train/cat/zero.JPEG")
    sums.add(list_images(folder).checksum)
    (folder / "train/cat/zero.JPEG").write_bytes(encode(pixels(50, 90, 90)))
    sums.add(list_images(folder).checksum)
    assert len(sums) == 3
    os.rename(folder, tmp_path / "elsewhere")
    assert list_images(tmp_path / "elsewhere").checksum in sums


# Complete or not


@pytest.fixture
def small_imagenet(tmp_path, monkeypatch):
    """A data set that is complete if ImageNet has 4 classes of 5 to 6 training and 2 validation images."""
    for name, value in (("CLASSES", 4), ("TRAIN_IMAGES", 21), ("TRAIN_PER_CLASS", (5, 6)), ("VAL_IMAGES", 8)):
        monkeypatch.setattr(listings, name, value)
    monkeypatch.setattr(listings, "VAL_PER_CLASS", 2)
    folder = write_photographs(tmp_path / "ILSVRC2012", [f"n0000000{i}" for i in range(4)], train=5)
    (folder / "train/n00000003/5.JPEG").write_bytes(encode(pixels(1)))
    return folder


def test_all_of_imagenet(small_imagenet):
    assert loaded(small_imagenet).identity["name"] == "ImageNet"


@pytest.mark.parametrize(
    ("remove", "message"),
    [
        (
            "train/n00000001/4.JPEG",
            r"train/ has 20 images, not 21 \(n00000001 has 4, where 5 to 6 would be right\)",
        ),
        ("train/n00000003/5.JPEG", r"train/ has 20 images, not 21; "),
        ("val/n00000002/1.JPEG", r"val/ has 7 images, not 8 \(n00000002 has 1, where 2 would be right\)"),
    ],
    ids=["a class too small", "one image", "a validation image"],
)
def test_a_part_of_imagenet_is_refused_unless_asked_for(small_imagenet, remove, message):
    (small_imagenet / remove).unlink()
    with pytest.raises(DataError, match=message) as error:
        loaded(small_imagenet)
    assert "\n" not in str(error.value)
    assert "--subset" in str(error.value)
    assert loaded(small_imagenet, subset=True).identity["name"].startswith("subset of ImageNet, 2")


def test_a_class_less_is_refused(small_imagenet):
    for split in ("train", "val"):
        os.rename(small_imagenet / split / "n00000000", small_imagenet / f"{split}-0")
    with pytest.raises(DataError, match="it has 3 of 4 classes"):
        loaded(small_imagenet)


def test_half_of_the_classes_are_another_data_set(small_imagenet):
    """As Imagenette and Tiny-ImageNet are."""
    for split in ("train", "val"):
        for label in (0, 1):
            os.rename(small_imagenet / split / f"n0000000{label}", small_imagenet / f"{split}-{label}")
    assert loaded(small_imagenet).identity["name"] == "image folder ILSVRC2012"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda p: os.rename(p / "val/dog", p / "val/wolf"),
            "2 classes in train/ and 2 in val/; .* differ in dog, wolf",
        ),
        (lambda p: os.rename(p / "val/dog", p / "dog"), "2 classes in train/ and 1 in val/"),
        (lambda p: os.rename(p / "val", p / "validate"), r"no images in test/<class>/"),
        (lambda p: os.rename(p / "train", p / "training"), "no train/ folder"),
        (lambda p: (p / "test/cat").mkdir(parents=True), "val/ and test/ of the same classes"),
        (lambda p: (p / "train/cat/0.JPEG").write_bytes(b""), r"cat/0\.JPEG has 0 bytes"),
        (lambda p: os.truncate(p / "train/cat/0.JPEG", 1 << 27), r"cat/0\.JPEG has 134,217,728 bytes"),
        (lambda p: os.mkfifo(p / "train/cat/pipe.JPEG"), r"pipe\.JPEG is not a plain file"),
        (lambda p: (p / "train/cat/x.JPEG").symlink_to("/nowhere"), r"x\.JPEG does not exist"),
    ],
    ids=[
        "other classes",
        "a class less",
        "no val",
        "no train",
        "two tests",
        "empty",
        "too large",
        "a pipe",
        "a dead link",
    ],
)
def test_unusable_folders(tmp_path, spoil, message):
    folder = write_photographs(tmp_path / "pets")
    spoil(folder)
    with pytest.raises(DataError, match=message) as error:
        loaded(folder)
    assert "\n" not in str(error.value)


def test_one_class_is_not_enough(tmp_path):
    with pytest.raises(DataError, match="only one class, cat"):
        list_images(write_photographs(tmp_path / "pets", ["cat"]))


def test_links_to_images_are_followed(tmp_path):
    folder = write_photographs(tmp_path / "pets")
    os.rename(folder / "train/cat", tmp_path / "cats")
    (folder / "train/cat").symlink_to(tmp_path / "cats")
    assert len(list_images(folder).train) == 12


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_is_named_when_it_is_read(tmp_path, workers):
    folder = write_photographs(tmp_path / "pets")
    path = folder / "train/dog/3.JPEG"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"train/dog/3\.JPEG is not a readable image") as error:
        epoch(loaded(folder, workers=workers).train_dataloader())
    assert "\n" not in str(error.value)


def test_an_image_that_is_gone_is_named(tmp_path):
    datamodule = loaded(write_photographs(tmp_path / "pets"))
    (tmp_path / "pets/val/cat/0.JPEG").unlink()
    with pytest.raises(DataError, match=r"val/cat/0\.JPEG cannot be read: No such file"):
        epoch(datamodule.test_dataloader())


def test_a_wrong_number_of_workers(tmp_path, monkeypatch):
    monkeypatch.setenv("OIN_WORKERS", "many")
    with pytest.raises(DataError, match="OIN_WORKERS is 'many'"):
        loaded(write_photographs(tmp_path / "pets"), workers=None)


@pytest.mark.parametrize(
    ("environment", "own", "workers"),
    [(SLURMEnvironment, "3", 3), (SLURMEnvironment, "", 1), (LightningEnvironment, "3", 1)],
)
def test_workers_share_the_cores_unless_slurm_gives_each_process_its_own(
    tmp_path, monkeypatch, environment, own, workers
):
    monkeypatch.setattr(imagenet, "usable_cores", lambda: 8)
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", own)
    datamodule = loaded(write_photographs(tmp_path / "pets"), workers=None)
    strategy = SimpleNamespace(cluster_environment=environment(), root_device="cpu")
    datamodule.trainer = SimpleNamespace(strategy=strategy, num_devices=8, world_size=1, global_rank=0)
    assert datamodule._workers() == workers


# The resized cache


# The official archives


@pytest.mark.skipif(not SAMPLE.exists(), reason="the sample of ImageNet's photographs is not here")
def test_photographs_of_imagenet(tmp_path):
    """250 of them, in five classes: decoded and cropped at their own sizes, from files and from the cache."""
    with tarfile.open(SAMPLE) as archive:
        files = [member for member in archive if member.isfile()]
        for number, member in enumerate(files):
            for split in ("train", "val"):
                path = tmp_path / "photographs" / split / f"class{number % 5}" / Path(member.name).name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(archive.extractfile(member).read())
    raw, cached = (loaded(tmp_path / "photographs", image_size=64, batch_size=50, resized=r) for r in (False, True))
    assert (raw.num_train, raw.num_test, raw.num_classes) == (250, 250, 5)
    assert same(epoch(raw.test_dataloader()), epoch(cached.test_dataloader()))
    images = torch.cat([images for images, _ in epoch(raw.train_dataloader())])
    assert images.shape == (250, 3, 64, 64)
    assert abs(images.mean()) < 0.5
    assert 0.7 < images.std() < 1.5
