"""Image folders and tars: the right pixels, decoded once, and every way in which they can be wrong."""

import io
import os
import shutil
import tarfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import datamodules.image_folder as image_folder
from datamodules import DataError, ImageFolderDataModule
from datamodules.images import is_image_folder, scan_images
from tests.datamodules.folders import loaded, png, processes_that_share_imports, tree, write_folder, write_tar

JPEG_COPY = Path(__file__).parents[2].parent / "shared" / "data" / "cifar10-jpeg.tar.gz"


@pytest.mark.parametrize("top", ["", "images/", "some/images/"])
@pytest.mark.parametrize("suffix", ["", ".tar", ".tar.gz", ".tar.xz"])
def test_folder_and_tar_hold_the_same_pixels(tmp_path, suffix, top):
    files = tree()
    path = tmp_path / f"set{suffix}"
    shuffled = {top + name: files[name] for name in reversed(files)}
    modes = {".tar": "w", ".tar.gz": "w:gz", ".tar.xz": "w:xz"}
    path = write_tar(path, shuffled, modes[suffix]) if suffix else write_folder(path, shuffled)
    assert is_image_folder(path)
    datamodule = loaded(path)
    assert datamodule.class_names == ("cat", "dog")
    assert (datamodule.num_train, datamodule.num_test, datamodule.image_shape) == (6, 4, (3, 8, 8))
    arrays = datamodule.arrays
    expected = [
        np.asarray(Image.open(io.BytesIO(files[f"train/{c}/{i}.png"]))) for c in ("cat", "dog") for i in range(3)
    ]
    assert np.array_equal(arrays.train_images.numpy(), expected)
    assert arrays.train_labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert arrays.test_labels.tolist() == [0, 0, 1, 1]
    assert datamodule.identity["name"] == "set"
    assert "PNG" in datamodule.identity["source"]
    assert str(tmp_path) not in str(datamodule.identity)


@pytest.mark.parametrize(("side", "asked", "threads"), [(8, None, 1), (64, None, 4), (8, 3, 3), (64, 1, 1)])
def test_threads_decode_photographs_and_one_alone_small_images(monkeypatch, tmp_path, side, asked, threads):
    usual, used, meet = image_folder.decode_image, set(), threading.Barrier(threads)

    def decode_image(*arguments):
        meet.wait(60)  # until as many threads are here
        used.add(threading.get_ident())
        time.sleep(0.01)  # so that a thread too many would be used, too
        return usual(*arguments)

    monkeypatch.setattr(image_folder, "decode_image", decode_image)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    files = {name: png(seed, (side, side)) for seed, name in enumerate(tree(counts=(("train", 4), ("test", 2))))}
    Image.new("RGB", (side, side)).save(tiny := io.BytesIO(), "PNG")
    files["test/cat/0.png"] = tiny.getvalue()  # the first, which does not decide
    datamodule = loaded(write_folder(tmp_path / "set", files), workers=asked)
    assert len(used) == threads
    assert np.array_equal(
        datamodule.arrays.train_images[0], np.asarray(Image.open(io.BytesIO(files["train/cat/0.png"])))
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="everything can be read by root")
def test_folders_that_cannot_be_read_beside_the_images_are_passed_over(tmp_path):
    write_folder(tmp_path / "disk" / "set", tree())
    (tmp_path / "disk" / "lost+found").mkdir(mode=0)
    assert is_image_folder(tmp_path / "disk")


def test_images_one_folder_deeper_are_of_the_class(tmp_path):
    files = tree()
    deeper = {name.replace("train/cat/0", "train/cat/more/0"): data for name, data in files.items()}
    arrays = loaded(write_folder(tmp_path / "deeper", deeper)).arrays
    assert arrays.train_labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert np.array_equal(arrays.train_images[2], np.asarray(Image.open(io.BytesIO(files["train/cat/0.png"]))))


def test_images_added_to_a_class_are_seen_by_the_next_datamodule(tmp_path):
    path = write_folder(tmp_path / "set", tree())
    first = loaded(path)
    (path / "train/cat/new.png").write_bytes(png(9))
    assert (first.num_train, loaded(path).num_train) == (6, 7)


def test_names_that_are_not_unicode(tmp_path):
    path = write_folder(tmp_path / "set", tree())
    os.rename(path / "train/cat/0.png", os.fsencode(path / "train/cat") + b"/caf\xe9.png")
    assert loaded(path).num_train == 6


def test_the_name_of_the_folder_that_one_is_in(tmp_path, monkeypatch):
    path = write_folder(tmp_path / "pets", tree())
    monkeypatch.chdir(path)
    assert loaded(".").identity == loaded(path).identity


def test_val_stands_for_test(tmp_path):
    info = scan_images(write_folder(tmp_path / "set", tree(counts=(("train", 3), ("val", 2)))))
    assert (info.num_train, info.num_test) == (6, 4)


def test_colours_and_orientation(tmp_path):
    grey = png(1, mode="L")
    assert (image_folder.decode_image(grey, "grey").std(2) == 0).all()
    assert image_folder.decode_image(png(2, mode="CMYK"), "cmyk").shape == (8, 8, 3)
    upright = Image.fromarray(np.arange(8 * 4 * 3, dtype=np.uint8).reshape(8, 4, 3))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 270 degrees to show it
    buffer = io.BytesIO()
    upright.save(buffer, "PNG", exif=exif)
    turned = image_folder.decode_image(buffer.getvalue(), "turned")
    assert np.array_equal(turned, np.rot90(np.asarray(upright), -1))


def test_images_of_different_sizes_need_a_size(tmp_path):
    files = tree() | {"train/cat/9.png": png(9, size=(20, 10))}
    path = write_folder(tmp_path / "set", files)
    with pytest.raises(DataError, match=r"images of different sizes \(.*20 x 10.*\); pass image_size"):
        loaded(path)
    assert loaded(path, image_size=6).image_shape == (3, 6, 6)


def test_decoded_once(tmp_path, monkeypatch, cache):
    path = write_folder(tmp_path / "set", tree())
    first = loaded(path).arrays.train_images
    monkeypatch.setattr(image_folder, "decode_image", lambda *_: pytest.fail("decoded again"))
    assert torch.equal(loaded(path).arrays.train_images, first)


def test_cache_is_keyed_by_content(tmp_path):
    path = write_folder(tmp_path / "set", tree())
    before = ImageFolderDataModule(path)
    old = before.cache, before.identity["checksum"]
    assert ImageFolderDataModule(path, image_size=4).cache != old[0]
    other = write_folder(tmp_path / "other", tree() | {"train/cat/0.png": png(77)})
    assert ImageFolderDataModule(other).cache != old[0]
    assert ImageFolderDataModule(other).identity["checksum"] != old[1]


def test_images_that_change_while_they_are_read_are_not_kept(tmp_path, cache):
    path = write_folder(tmp_path / "set", tree())
    datamodule = ImageFolderDataModule(path)
    assert datamodule.info.num_train == 6
    original = (path / "train/cat/0.png").read_bytes()
    (path / "train/cat/0.png").write_bytes(png(77))
    with pytest.raises(DataError, match="set changed while it was read; call the same command again"):
        datamodule.prepare_data()
    (path / "train/cat/0.png").write_bytes(original)
    first = loaded(path).arrays.train_images[0]
    assert np.array_equal(first, np.asarray(Image.open(io.BytesIO(original))))


@pytest.mark.parametrize(
    "damage", [lambda d: d[: len(d) // 2], lambda d: d[:-1] + bytes([d[-1] ^ 1]), lambda d: b""]
)
def test_a_damaged_cache_is_decoded_again(tmp_path, cache, damage):
    path = write_folder(tmp_path / "set", tree())
    first = loaded(path).arrays.train_images
    (file,) = cache.glob("*.npy")
    file.write_bytes(damage(file.read_bytes()))
    assert torch.equal(loaded(path).arrays.train_images, first)


def test_a_cache_of_other_images_is_not_taken(tmp_path, cache):
    """Array and checksum of another data set, of the same size, under this one's name."""
    one = write_folder(tmp_path / "one", tree())
    other = write_folder(tmp_path / "other", {name: png(99) for name in tree()})
    expected = loaded(one).arrays.train_images
    loaded(other)
    for suffix in (".npy", ".sha256"):
        mine, theirs = (ImageFolderDataModule(path).cache.with_suffix(suffix) for path in (one, other))
        shutil.copy(theirs, mine)
    assert torch.equal(loaded(one).arrays.train_images, expected)


def test_an_interrupted_decoding_leaves_nothing_that_looks_finished(tmp_path, cache, monkeypatch):
    path = write_folder(tmp_path / "set", tree())

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            loaded(path)
    assert not list(cache.glob("*.npy")) + list(cache.glob("*.tmp"))
    stem = ImageFolderDataModule(path).cache.stem
    (cache / f"{stem}.killed.tmp").write_bytes(b"half")
    assert loaded(path).num_train == 6
    assert not list(cache.glob("*.tmp"))


def _prepare(path, cache, queue):
    os.environ["OIN_CACHE_DIR"] = str(cache)
    decoded = []
    original = image_folder.decode_image
    image_folder.decode_image = lambda *a: (decoded.append(1), original(*a))[1]
    ImageFolderDataModule(path).prepare_data()
    queue.put(len(decoded))


def test_processes_share_one_decoding(tmp_path, cache):
    path = write_folder(tmp_path / "set", tree())
    context = processes_that_share_imports()
    queue = context.Queue()
    processes = [context.Process(target=_prepare, args=(path, cache, queue)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert sorted(queue.get(timeout=5) for _ in processes) == [0, 0, 0, 10]


@pytest.mark.skipif(not JPEG_COPY.exists(), reason="the JPEG copy of CIFAR-10 is not here")
def test_the_jpeg_copy_of_cifar10(tmp_path_factory):
    info = scan_images(JPEG_COPY)
    assert (info.num_train, info.num_test, len(info.class_names), info.format) == (50_000, 10_000, 10, "JPEG")
    assert info.checksum == "sha256:bc017d9606ffe220d45c74ff7973619d2832758b8e0f46139a9aed4cd58b5825"
    files = {file.name: file for file in info.files}
    with tarfile.open(JPEG_COPY) as archive:
        member = next(m for m in archive if m.name in files)
        image = image_folder.decode_image(archive.extractfile(member).read(), member.name)
    assert image.shape == (32, 32, 3)


def test_a_folder_that_vanishes_after_it_was_scanned(tmp_path):
    path = write_folder(tmp_path / "set", tree())
    datamodule = ImageFolderDataModule(path)
    assert datamodule.info.num_train == 6
    shutil.rmtree(path)
    with pytest.raises(DataError, match="set cannot be read: No such file"):
        datamodule.prepare_data()
