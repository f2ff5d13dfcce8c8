"""Images of every kind become the right pixels, or one line that names them."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from datamodules.decoding import decode, decode_size
from datamodules.errors import DataError
from tests.datamodules.photographs import encode, pixels


def decoded(data: bytes) -> np.ndarray:
    image = decode(data, "it")
    assert image.dtype == torch.uint8
    return image.permute(1, 2, 0).numpy()


def by_pillow(data: bytes) -> np.ndarray:
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(pixels(1), exif=exif)


@pytest.mark.parametrize(
    "data",
    [
        encode(pixels(1)),
        encode(pixels(1), progressive=True),
        encode(pixels(1)[..., 0]),
        encode(Image.fromarray(pixels(1)).convert("CMYK")),
        encode(pixels(1), "PNG"),
        encode(Image.fromarray(pixels(1)).convert("P"), "PNG"),
        encode(np.dstack([pixels(1), pixels(2)[..., 0]]), "PNG"),
        encode(Image.fromarray(pixels(1)).convert("1"), "PNG"),
        encode(pixels(1, 1, 1)),
        encode(pixels(1, 1, 700)),
    ],
    ids=["RGB", "progressive", "grey", "CMYK", "PNG", "palette", "RGBA", "bits", "one pixel", "a line"],
)
def test_pixels_are_those_of_pillow(data):
    assert np.array_equal(decoded(data), by_pillow(data))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_turned_upright(orientation, tmp_path):
    (tmp_path / "it.jpg").write_bytes(turned(orientation))
    image = decoded(turned(orientation))
    assert np.array_equal(image, by_pillow(turned(orientation)))
    assert decode_size(tmp_path / "it.jpg") == image.shape[:2] == ((40, 30) if orientation >= 5 else (30, 40))


@pytest.mark.parametrize("orientation", [0, 9, 300])
def test_what_is_no_orientation_turns_nothing(orientation, tmp_path):
    (tmp_path / "it.jpg").write_bytes(turned(orientation))
    assert decoded(turned(orientation)).shape[:2] == decode_size(tmp_path / "it.jpg") == (30, 40)


def test_odd_tags_do_not_matter():
    """A resolution is a fraction, which Pillow could not write again as the text that it is here."""
    orientation, resolution = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0), struct.pack("<HHI4s", 0x011A, 2, 3, b"72")
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + orientation + resolution + bytes(4)
    data = encode(pixels(1), exif=exif)
    with pytest.raises((TypeError, struct.error, AttributeError)):
        by_pillow(data)
    assert np.array_equal(decoded(data), np.rot90(decoded(encode(pixels(1))), -1))


def test_cmyk_has_its_colours():
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    assert np.abs(decoded(encode(image)).astype(int) - [255, 0, 0]).max() < 6


def test_grey_of_16_bits_keeps_its_high_byte():
    levels = (np.arange(256, dtype=np.uint16) << 8).reshape(16, 16)
    assert np.array_equal(decoded(encode(levels, "PNG"))[..., 0], (levels >> 8).astype(np.uint8))


def test_pgm_of_16_bits_keeps_its_high_byte():
    levels = (np.arange(256, dtype=np.uint16) << 8).reshape(16, 16)
    data = b"P5 16 16 65535\n" + levels.astype(">u2").tobytes()
    assert np.array_equal(decoded(data)[..., 0], (levels >> 8).astype(np.uint8))


def png_header(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", len(header) - 4) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not a readable image"),
        (b"<html>not found</html>", r"not a readable image \(cannot identify image file\)"),
        (encode(pixels(1))[:700], "truncated"),
        (encode(pixels(1))[:-20], "truncated"),
        (encode(pixels(1), "PNG")[:100], "not a readable image"),
        (encode(Image.new("1", (11_000, 11_000)), "PNG"), "11000 x 11000 pixels; at most 100,000,000"),
        (png_header(100_000, 100_000), "not a readable image"),
        (encode(Image.new("I", (8, 8), 200), "TIFF"), "grey of 32 bits; save it with 8 or 16"),
        (encode(Image.new("F", (8, 8), 0.5), "TIFF"), "grey of 32 bits; save it with 8 or 16"),
    ],
    ids=["empty", "HTML", "a part", "without its end", "half a PNG", "huge", "a bomb", "integers", "floats"],
)
def test_what_cannot_be_read_is_named_in_one_line(data, reason):
    with pytest.raises(DataError, match=reason) as error:
        decode(data, "train/cat/1.JPEG")
    assert str(error.value).startswith("train/cat/1.JPEG ")
    assert "\n" not in str(error.value)


def test_a_name_of_a_file_that_is_gone(tmp_path: Path):
    with pytest.raises(DataError, match=r"gone\.jpg"):
        decode_size(tmp_path / "gone.jpg")
