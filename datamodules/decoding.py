"""One encoded image as pixels: every colour mode, turned as its EXIF orientation says, or a line that names it."""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg

from datamodules.errors import DataError

ON_THEIR_SIDE = (
    Image.Transpose.TRANSPOSE,
    Image.Transpose.ROTATE_270,
    Image.Transpose.TRANSVERSE,
    Image.Transpose.ROTATE_90,
)
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    **dict(enumerate(ON_THEIR_SIDE, start=5)),
}
"""What an EXIF orientation asks for. Pillow's ``exif_transpose`` writes all tags anew, which fails on odd ones."""

MAX_PIXELS = 100_000_000
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "PPM", "TIFF", "GIF")
"""Decoded whatever a file is called; others are not tried, as Pillow would run Ghostscript on PostScript."""


def decode(data: bytes, name: str) -> Tensor:
    """(3, H, W) uint8 of one encoded image.

    JPEGs go through torchvision, which gives the pixels of Pillow in less time; what it cannot read goes to Pillow.

    Raises:
        DataError: it is damaged or has more than ``MAX_PIXELS`` pixels; ``name`` says which.
    """
    with open_image(data, name) as image:
        if image.format == "JPEG" and _turn(image) is None:
            with contextlib.suppress(RuntimeError):
                return decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8), ImageReadMode.RGB)
        return torch.from_numpy(np.array(to_rgb(image))).permute(2, 0, 1)


def decode_size(path: Path) -> tuple[int, int]:
    """(H, W) of an image as ``decode`` gives it, from its header.

    Raises:
        DataError: as ``decode``, if the header shows it.
    """
    with open_image(path, str(path)) as image:
        return (image.width, image.height) if _turn(image) in ON_THEIR_SIDE else (image.height, image.width)


@contextlib.contextmanager
def open_image(source: bytes | Path, name: str) -> Iterator[Image.Image]:
    """The image with its header read; what goes wrong inside is told with ``name``.

    Raises:
        DataError: it is damaged or has more than ``MAX_PIXELS`` pixels.
    """
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DataError(
                    f"{name} has {image.width} x {image.height} pixels; at most {MAX_PIXELS:,} are read"
                )
            yield image
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = str(error).partition(" <_io.")[0]  # Pillow names the object that holds the data
        raise DataError(f"{name} is not a readable image ({reason})") from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Upright and with three colours of 8 bits; of 16-bit grey the high byte.

    Raises:
        ValueError: numbers of 32 bits, of which nothing says what is white.
    """
    wide = image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM")
    if image.mode in ("I", "F") and not wide:
        raise ValueError("grey of 32 bits; save it with 8 or 16")
    if (turn := _turn(image)) is not None:
        image = image.transpose(turn)
    if wide:
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert("RGB")


def _turn(image: Image.Image) -> Image.Transpose | None:
    """What sets the image upright, by its EXIF orientation; None if it is so, or says what is no orientation."""
    return UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
