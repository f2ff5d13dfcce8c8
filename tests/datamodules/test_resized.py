"""Photographs resized beforehand: the same bits, once, and never a damaged cache."""

import pytest

import datamodules.resized as resized
from datamodules import DataError, ImageNetDataModule
from tests.datamodules.photographs import encode, epoch, loaded, pixels, same, write_photographs


def test_evaluation_from_the_cache_gives_the_same_bits(tmp_path):
    folder = write_photographs(tmp_path / "pets")
    (folder / "val/cat/0.JPEG").write_bytes(encode(pixels(3, 300, 400)))
    (folder / "val/cat/1.JPEG").write_bytes(encode(pixels(4, 30, 301)))  # its middle alone is resized
    raw, cached = loaded(folder), loaded(folder, resized=True)
    assert same(epoch(raw.test_dataloader()), epoch(cached.test_dataloader()))
    assert cached.identity["name"] == "image folder pets (pre-resized to 18)"
    assert cached.identity["checksum"] == raw.identity["checksum"]
    assert not same(epoch(raw.train_dataloader()), epoch(cached.train_dataloader()))


def test_images_are_resized_once(tmp_path, monkeypatch):
    folder = write_photographs(tmp_path / "pets")
    first = epoch(loaded(folder, resized=True).train_dataloader())
    monkeypatch.setattr(resized, "decode", lambda *_: pytest.fail("decoded again"))
    assert same(epoch(loaded(folder, resized=True).train_dataloader()), first)


def test_images_that_change_while_they_are_resized_are_not_kept(tmp_path, cache):
    folder = write_photographs(tmp_path / "pets")
    datamodule = ImageNetDataModule(folder, image_size=16, resized=True)
    assert len(datamodule.listing.train) == 12
    (folder / "train/cat/0.JPEG").write_bytes(encode(pixels(99, 31, 41)))
    with pytest.raises(DataError, match="pets changed while it was read; call the same command again"):
        datamodule.prepare_data()
    assert [path.suffix for path in cache.iterdir()] == [".lock"]
    loaded(folder, resized=True)  # what is there now


def test_other_pixels_in_files_of_the_same_names_and_sizes_are_resized_anew(tmp_path):
    folder = write_photographs(tmp_path / "pets")
    (folder / "val/cat/0.JPEG").write_bytes(encode(pixels(76), "BMP"))
    first = loaded(folder, resized=True)
    before = epoch(first.test_dataloader())
    (folder / "val/cat/0.JPEG").write_bytes(encode(pixels(77), "BMP"))
    again = loaded(folder, resized=True)
    assert again.identity == first.identity
    assert not same(epoch(again.test_dataloader()), before)


@pytest.mark.parametrize("damage", [lambda d: d[:-1], lambda d: b""], ids=["cut short", "empty"])
@pytest.mark.parametrize("suffix", ["pixels", "npz"])
def test_a_damaged_cache_is_made_again(tmp_path, cache, damage, suffix):
    folder = write_photographs(tmp_path / "pets")
    first = epoch(loaded(folder, resized=True).train_dataloader())
    (file,) = cache.glob(f"*.{suffix}")
    file.write_bytes(damage(file.read_bytes()))
    assert same(epoch(loaded(folder, resized=True).train_dataloader()), first)


def test_a_flipped_bit_in_the_cache_is_found(tmp_path, cache):
    folder = write_photographs(tmp_path / "pets")
    datamodule = loaded(folder, resized=True)
    (file,) = cache.glob("*.pixels")
    data = bytearray(file.read_bytes())
    data[0] ^= 1
    file.write_bytes(data)
    with pytest.raises(DataError, match=r"\.pixels was altered \(image 0\); remove it"):
        epoch(datamodule.train_dataloader())


def test_an_interrupted_resizing_leaves_nothing_that_looks_finished(tmp_path, cache, monkeypatch):
    folder = write_photographs(tmp_path / "pets")

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(resized, "decode", interrupted)
        with pytest.raises(KeyboardInterrupt):
            loaded(folder, resized=True)
    assert not list(cache.glob("*.pixels")) + list(cache.glob("*.npz")) + list(cache.glob("*.tmp"))
    assert loaded(folder, resized=True).num_train == 12


def test_no_room_for_the_cache_is_told_before(tmp_path, cache, monkeypatch):
    usage = resized.shutil.disk_usage(tmp_path)._replace(free=10_000)
    monkeypatch.setattr(resized.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DataError, match=r"16 images of image folder pets resized take 0\.0\d GB.*0\.00 GB free"):
        loaded(write_photographs(tmp_path / "pets"), resized=True)
    assert not list(cache.glob("*.tmp"))
