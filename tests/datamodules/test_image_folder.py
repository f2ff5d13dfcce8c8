"""Image folders and tars: the right pixels, decoded once, and every way in which they can be wrong."""

import gzip
import io
import multiprocessing
import os
import shutil
import struct
import tarfile
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import datamodules.image_folder as image_folder
from datamodules import DataError, ImageFolderDataModule
from datamodules.images import is_image_folder, scan_images

JPEG_COPY = Path(__file__).parents[2].parent / "shared" / "data" / "cifar10-jpeg.tar.gz"


def png(seed=0, size=(8, 8), mode="RGB"):
    shape = (size[1], size[0], len(mode)) if len(mode) > 1 else (size[1], size[0])
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels, mode).save(buffer, "TIFF" if mode == "CMYK" else "PNG")
    return buffer.getvalue()


def tree(classes=("cat", "dog"), counts=(("train", 3), ("test", 2))):
    names = [f"{split}/{label}/{i}.png" for split, count in counts for label in classes for i in range(count)]
    return {name: png(seed) for seed, name in enumerate(names)}


def write_folder(path, files):
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def write_tar(path, files, mode="w:gz", members=()):
    with tarfile.open(path, mode) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for member in members:
            archive.addfile(member)
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("OIN_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def loaded(path, **options):
    datamodule = ImageFolderDataModule(path, batch_size=2, **options)
    datamodule.prepare_data()
    datamodule.setup()
    return datamodule


@pytest.mark.parametrize("top", ["", "images/"])
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


def _prepare(path, queue):
    decoded = []
    original = image_folder.decode_image
    image_folder.decode_image = lambda *a: (decoded.append(1), original(*a))[1]
    ImageFolderDataModule(path).prepare_data()
    queue.put(len(decoded))


def test_processes_share_one_decoding(tmp_path):
    path = write_folder(tmp_path / "set", tree())
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    processes = [context.Process(target=_prepare, args=(path, queue)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert sorted(queue.get(timeout=5) for _ in processes) == [0, 0, 0, 10]


def without(prefix):
    return {name: data for name, data in tree().items() if not name.startswith(prefix)}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (without("test/"), "no images in test/<class>/"),
        (without("train/"), "no images in train/<class>/"),
        (tree(classes=("cat",)), "only one class, cat"),
        (without("test/dog/"), "classes that differ between train and test: dog"),
        (tree() | {"train/cat/1.png": b"not an image"}, r"train/cat/1\.png is not a readable image"),
        (tree() | {"train/cat/1.png": png()[:100]}, r"train/cat/1\.png is not a readable image"),
    ],
    ids=["no test", "no train", "one class", "classes differ", "no image", "half an image"],
)
@pytest.mark.parametrize("write", [write_folder, write_tar], ids=["folder", "tar"])
def test_unusable_images(tmp_path, files, message, write):
    path = write(tmp_path / ("set.tar.gz" if write is write_tar else "set"), files)
    with pytest.raises(DataError, match=message) as error:
        loaded(path)
    assert "\n" not in str(error.value)


def test_a_missing_path(tmp_path):
    with pytest.raises(DataError, match="does not exist; give a folder or tar"):
        loaded(tmp_path / "nowhere")


def test_an_unreadable_path(tmp_path, monkeypatch):
    path = write_tar(tmp_path / "set.tar.gz", tree())

    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(DataError, match=r"set\.tar\.gz .*Permission denied"):
        loaded(path)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
@pytest.mark.parametrize("share", [0.2, 0.3, 0.45, 0.5])
def test_a_truncated_archive(tmp_path, mode, share):
    """A plain tar of ten members is 1,024 bytes each and an end marker: 0.45 and 0.5 cut between members."""
    path = write_tar(tmp_path / f"set.tar{mode[1:].replace(':', '.')}", tree(), mode)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(DataError, match="fetch it again"):
        loaded(path)


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("place", [0.5, "checksum"])
def test_one_flipped_bit_in_an_archive_is_found(tmp_path, mode, place):
    """Compressed archives end with a checksum of what they hold."""
    path = write_tar(tmp_path / f"set.tar{mode[1:].replace(':', '.')}", tree(), mode)
    data = bytearray(path.read_bytes())
    data[len(data) - {"w:gz": 6, "w:bz2": 4, "w:xz": 16}[mode] if place == "checksum" else len(data) // 2] ^= 16
    path.write_bytes(data)
    with pytest.raises(DataError, match="fetch it again"):
        loaded(path)


def test_an_archive_that_goes_on_after_its_end_is_refused(tmp_path):
    path = write_tar(tmp_path / "set.tar", tree(), "w")
    with gzip.open(tmp_path / "set.tar.gz", "wb", compresslevel=1) as file:
        file.write(path.read_bytes())
        for _ in range(65):
            file.write(bytes(1 << 20))
    with pytest.raises(DataError, match="goes on after its end"):
        loaded(tmp_path / "set.tar.gz")


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_that_claims_to_be_huge_is_not_read(tmp_path, kind):
    """Python reads names and headers whole; 400 MB of zeros, 400 kB on disk."""
    path = tmp_path / "set.tar.gz"
    member = tarfile.TarInfo("x")
    member.type, member.size = kind, 400 << 20
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(member.tobuf(tarfile.USTAR_FORMAT))
        for _ in range(400):
            file.write(bytes(1 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="a header of 419,430,400 bytes"):
            loaded(path)
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()


def test_images_that_do_not_fit_in_memory_are_refused(tmp_path, monkeypatch):
    path = write_folder(tmp_path / "set", tree())
    monkeypatch.setattr("os.sysconf", {"SC_PHYS_PAGES": 1, "SC_PAGE_SIZE": 1000}.get)
    with pytest.raises(DataError, match="10 images of 8 x 8 pixels; pass image_size"):
        loaded(path)


def test_postscript_is_not_run(tmp_path):
    """Pillow would start Ghostscript."""
    program = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"
    path = write_folder(tmp_path / "set", tree() | {"train/cat/0.png": program})
    with pytest.raises(DataError, match=r"train/cat/0\.png is not a readable image \(cannot identify"):
        loaded(path)


def test_a_pipe_in_place_of_an_image_is_refused(tmp_path):
    path = write_folder(tmp_path / "set", tree())
    os.mkfifo(path / "train/cat/pipe.png")
    with pytest.raises(DataError, match=r"pipe\.png is not a plain file"):
        loaded(path)


def link(name, kind):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/passwd"
    return info


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (link("train/cat/link.png", tarfile.SYMTYPE), "link or device"),
        (link("train/cat/link.png", tarfile.LNKTYPE), "link or device"),
        (tarfile.TarInfo("../outside.png"), "leads outside"),
        (tarfile.TarInfo("/absolute.png"), "leads outside"),
    ],
    ids=["symlink", "hard link", "dots", "absolute"],
)
def test_hostile_members_are_refused(tmp_path, member, message):
    with pytest.raises(DataError, match=message):
        loaded(write_tar(tmp_path / "set.tar.gz", tree(), members=[member]))


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path):
    """A gigabyte of zeros, a megabyte on disk."""
    path = tmp_path / "set.tar.gz"
    size = 1 << 30
    member = tarfile.TarInfo("train/cat/bomb.png")
    member.size = size
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(member.tobuf())
        for _ in range(size >> 24):
            file.write(bytes(1 << 24))
    with pytest.raises(DataError, match=f"has a file of {size:,} bytes: 'train/cat/bomb.png'"):
        loaded(path)


def test_an_image_that_claims_ten_thousand_megapixels_is_refused(tmp_path):
    """A header is enough to claim them."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", len(header) - 4) + header + struct.pack(">I", zlib.crc32(header))
    path = write_folder(tmp_path / "set", tree())
    (path / "train/cat/0.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk)
    with pytest.raises(DataError, match=r"train/cat/0\.png"):
        loaded(path)


def test_a_symbolic_link_in_a_folder_is_refused(tmp_path):
    path = write_folder(tmp_path / "set", tree())
    (path / "train/cat/link.png").symlink_to(path / "train/cat/0.png")
    with pytest.raises(DataError, match="symbolic link"):
        loaded(path)


def test_a_huge_image_is_refused_before_it_is_decoded(tmp_path):
    huge = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(huge, "PNG")
    path = write_folder(tmp_path / "set", tree() | {"train/cat/huge.png": huge.getvalue()})
    with pytest.raises(DataError, match=r"huge\.png"):
        loaded(path)


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


def test_cleanup(tmp_path):
    """A folder that vanishes after it was scanned is one line, not a traceback."""
    path = write_folder(tmp_path / "set", tree())
    datamodule = ImageFolderDataModule(path)
    assert datamodule.info.num_train == 6
    shutil.rmtree(path)
    with pytest.raises(DataError, match="does not exist"):
        datamodule.prepare_data()
