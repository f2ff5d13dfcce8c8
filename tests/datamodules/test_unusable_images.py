"""Images and archives that are damaged, hostile or too large: refused, in one line."""

import gzip
import io
import os
import struct
import tarfile
import tracemalloc
import zlib
from pathlib import Path

import pytest
from PIL import Image

from datamodules import DataError
from tests.datamodules.folders import loaded, png, tree, write_folder, write_tar


def without(prefix):
    return {name: data for name, data in tree().items() if not name.startswith(prefix)}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (without("test/"), "no images in test/<class>/"),
        (without("train/"), "no images in train/<class>/"),
        (tree(classes=("cat",)), "only one class, cat"),
        (without("test/dog/"), "classes that differ between train and test: dog"),
        (
            tree(counts=(("train", 3), ("val", 1), ("test", 2))),
            "val/ and test/, each of which could be the test set",
        ),
        (
            tree() | {f"old/{name}": data for name, data in tree().items()},
            "several data sets, in ./ and old/; it must have one",
        ),
        (tree() | {"train/cat/1.png": b"not an image"}, r"train/cat/1\.png is not a readable image"),
        (tree() | {"train/cat/1.png": png()[:100]}, r"train/cat/1\.png is not a readable image"),
    ],
    ids=[
        "no test",
        "no train",
        "one class",
        "classes differ",
        "two test sets",
        "two sets",
        "no image",
        "half an image",
    ],
)
@pytest.mark.parametrize("write", [write_folder, write_tar], ids=["folder", "tar"])
def test_unusable_images(tmp_path, files, message, write):
    path = write(tmp_path / ("set.tar.gz" if write is write_tar else "set"), files)
    with pytest.raises(DataError, match=message) as error:
        loaded(path)
    assert "\n" not in str(error.value)


def test_a_tar_that_was_added_to_has_a_name_twice(tmp_path):
    path = write_tar(tmp_path / "set.tar", tree(), "w")
    write_tar(path, {"./train/cat/1.png": png(9)}, "a")
    with pytest.raises(DataError, match=r"set\.tar has train/cat/1\.png twice; repack it"):
        loaded(path)


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
