"""How fast one core turns photographs into batches of pixels, from their files and from the resized cache.

Measured in one process and by its processor time, so that other work hardly counts, nor waiting for a disk: the
files are in memory after the first pass. A photograph is cropped as in training on ImageNet.
"""

import io
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmark.errors import UserError
from datamodules import DataError, ImageNetDataModule
from datamodules.listing import list_images

IMAGES = 250
"""Of a data set are measured at most."""

MADE, WIDTH, HEIGHT, QUALITY = 32, 500, 375, 95
"""Photographs that are made where none are given: their number, pixels, and JPEG quality."""

SMOOTHING = (1, 2, 4, 8, 16, 32, 64)
COARSENESS = 0.3
"""Pixels of the noise that a made photograph is the sum of, coarse noise the strongest, as in nature; so strong
that the file is as large as an ImageNet photograph's, 108 kB in a sample of 250."""

Row = dict[str, Any]
Report = Callable[[str], None]


def measure_input(data_dir: Path | None, passes: int, report: Report) -> list[Row]:
    """Images per second of one core's time, from files and from the cache, in the median of so many passes.

    Args:
        data_dir: photographs in train/<class>/ and val/<class>/; None makes some.
        passes: over the photographs, after a first one that warms up.
        report: called with a line on each.

    Raises:
        UserError: the photographs cannot be used.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder, name = Path(scratch) / "photographs", f"made, {WIDTH} x {HEIGHT}"
        try:
            if data_dir:
                name = link_photographs(data_dir, folder)
            else:
                make_photographs(folder)
            rows = [{"data": name, **_measure(folder, resized, Path(scratch), passes)} for resized in (False, True)]
        except DataError as error:
            raise UserError(str(error)) from error
    for row in rows:
        report(f"input of {row['images']} photographs, {row['from']}: {row['images/s']:.0f} images/s a core")
    return rows


def check_photographs(data_dir: Path | None) -> None:
    """Before other things are measured, which may take hours.

    Raises:
        UserError: the photographs cannot be used.
    """
    try:
        if data_dir:
            list_images(data_dir, subset=True)
    except DataError as error:
        raise UserError(str(error)) from error


def link_photographs(data_dir: Path, folder: Path) -> str:
    """A sample of the training images, as links to them; returns the name of the whole.

    Raises:
        DataError: see ``list_images``.
    """
    listing = list_images(data_dir, subset=True)
    images = listing.train
    for index in np.linspace(0, len(images) - 1, min(IMAGES, len(images))).astype(int).tolist():
        source = images.path(index).absolute()
        for split in ("train", "val"):
            link = folder / split / listing.class_names[images.labels[index]] / f"{index}{source.suffix}"
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(source)
    return listing.name


def make_photographs(folder: Path) -> None:
    """JPEGs of ImageNet's usual size, in pixels and bytes, in two classes."""
    random = np.random.default_rng(0)
    for number in range(MADE):
        pixels = sum(_noise(random, width) * width**COARSENESS for width in SMOOTHING)
        pixels = (pixels - pixels.min()) / np.ptp(pixels) * 255
        buffer = io.BytesIO()
        Image.fromarray(pixels.astype(np.uint8)).save(buffer, "JPEG", quality=QUALITY)
        for split in ("train", "val"):
            path = folder / split / str(number % 2) / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(buffer.getvalue())


def _noise(random: np.random.Generator, width: int) -> np.ndarray:
    """(HEIGHT, WIDTH, 3), in squares of so many pixels."""
    shape = (-(-HEIGHT // width), -(-WIDTH // width), 3)
    squares = np.kron(random.standard_normal(shape), np.ones((width, width, 1)))
    return squares[:HEIGHT, :WIDTH]


def _measure(folder: Path, resized: bool, scratch: Path, passes: int) -> Row:
    datamodule = ImageNetDataModule(folder, resized=resized, subset=True, cache_dir=scratch, workers=0)
    datamodule.prepare_data()
    photographs = datamodule.training_images()
    count = len(photographs)
    return {
        "images": count,
        "kB": sum(datamodule.listing.train.path(i).stat().st_size for i in range(count)) / count / 1000,
        "from": "resized cache" if resized else "files",
        "images/s": count / median(_passes(photographs, passes)),
    }


def _passes(photographs: Any, passes: int) -> Iterator[float]:
    """Processor seconds of each pass but the first."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for epoch in range(passes + 1):
            started = time.process_time()
            batch = photographs.__getitems__([(epoch, index) for index in range(len(photographs))])
            if isinstance(batch, DataError):
                raise batch
            if epoch:
                yield time.process_time() - started
    finally:
        torch.set_num_threads(threads)
