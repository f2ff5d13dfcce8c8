"""Images resized beforehand to a common shorter side: pixels in one memory-mapped file, read without decoding.

Pixels and not JPEGs: nothing is lost a second time, so evaluation gives the same bits as from the original files,
and reading an image is a copy. The price is disk: about 260 kB an image at 256 pixels. Images differ in shape, so
they lie end to end, with an index of where each starts, its shape and its checksum, which is checked whenever it is
read.
"""

import hashlib
import os
import shutil
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
import torchvision.transforms.v2.functional as transforms
from torch import Tensor

from datamodules.cache import make_once, replace_atomically
from datamodules.decoding import decode, decode_size
from datamodules.errors import DataError
from datamodules.listing import Listing, check_unchanged
from datamodules.parallel import map_in_order, show_progress
from datamodules.streams import MOST_ELONGATED, read_file

VERSION = 2


@dataclass(frozen=True)
class _Index:
    """Of each image, training images first: ``starts`` in bytes, ``shapes`` (H, W), ``checksums`` (CRC-32)."""

    starts: np.ndarray
    shapes: np.ndarray
    checksums: np.ndarray


class ResizedImages:
    """The resized images of a listing, ``first`` and following. A worker that is handed it opens the files itself.

    Raises:
        DataError: the files are not there or not whole; (from a call) an image was altered.
    """

    def __init__(self, path: Path, first: int) -> None:
        self.path, self.first = path, first
        index = _read_index(path)
        if index is None:
            raise DataError(f"the resized images are not in {path}; call prepare_data()")
        self.index = index
        self.bytes = np.memmap(path, np.uint8, "r")

    def __reduce__(self) -> tuple[type["ResizedImages"], tuple[Path, int]]:
        return type(self), (self.path, self.first)

    def __call__(self, index: int) -> Tensor:
        index += self.first
        height, width = self.index.shapes[index].tolist()
        start = int(self.index.starts[index])
        data = np.array(self.bytes[start : start + 3 * height * width])
        if zlib.crc32(data) != self.index.checksums[index]:
            raise DataError(f"{self.path} was altered (image {index}); remove it, and it will be made anew")
        return torch.from_numpy(data).view(height, width, 3).permute(2, 0, 1)


def resized_path(listing: Listing, side: int, folder: Path) -> Path:
    """Where the images of a listing lie, resized to a shorter side of so many pixels."""
    key = hashlib.sha256(f"resized {VERSION} {listing.stamp} {side}".encode()).hexdigest()[:24]
    return folder / f"{key}.pixels"


def resize_all(listing: Listing, side: int, folder: Path, workers: int) -> None:
    """Write the resized images unless they are there; processes that start at once share the work.

    Raises:
        DataError: no room, or an image that cannot be read.
    """
    path = resized_path(listing, side, folder)
    make_once(path, lambda: _read_index(path) is not None, lambda: _resize_all(listing, side, path, workers))


def _resize_all(listing: Listing, side: int, path: Path, workers: int) -> None:
    files = [split.path(i) for split in (listing.train, listing.test) for i in range(len(split))]
    with ThreadPoolExecutor(workers) as pool:
        what = f"{len(files):,} images of {listing.name}"
        ahead = 16 * workers
        shapes = np.array(list(map_in_order(pool, partial(_resized_shape, side=side), files, ahead)))
        sizes = 3 * shapes.prod(1)
        starts, total = np.cumsum(sizes) - sizes, int(sizes.sum())
        _check_room(path.parent, total, what)
        checksums = np.empty(len(files), np.uint32)

        def write(file: BinaryIO, number: int) -> int:
            data = _resized(files[number], side).permute(1, 2, 0).contiguous().numpy()
            if data.shape[:2] != tuple(shapes[number]):
                raise DataError(f"{files[number]} changed while it was resized; call the same command again")
            os.pwrite(file.fileno(), data, int(starts[number]))
            return zlib.crc32(data)

        def write_pixels(file: BinaryIO) -> None:
            done = map_in_order(pool, partial(write, file), range(len(files)), ahead)
            line = f"resizing {what} to {side} pixels (once): {total / 1e9:,.2f} GB in {path.parent}"
            for number, checksum in enumerate(show_progress(done, len(files), f"resizing {listing.name}", line)):
                checksums[number] = checksum
            check_unchanged(listing)

        replace_atomically(path, write_pixels)
    index = {"starts": starts, "shapes": shapes, "checksums": checksums, "name": np.array(path.stem)}
    replace_atomically(path.with_suffix(".npz"), lambda file: np.savez(file, **index))


def _resized_shape(path: Path, side: int) -> tuple[int, int]:
    height, width = decode_size(path)
    if _is_kept(height, width, side):
        return height, width
    longer = int(side * max(height, width) / min(height, width))
    return (side, longer) if height <= width else (longer, side)


def _is_kept(height: int, width: int, side: int) -> bool:
    """Smaller images, to be enlarged when they are cropped, and very long ones, which are cropped first."""
    shorter, longer = min(height, width), max(height, width)
    return shorter <= side or longer > MOST_ELONGATED * shorter


def _resized(path: Path, side: int) -> Tensor:
    """(3, H, W)"""
    image = decode(read_file(path), str(path))
    return image if _is_kept(*image.shape[1:], side) else transforms.resize(image, [side], antialias=True)


def _check_room(folder: Path, total: int, what: str) -> None:
    free = shutil.disk_usage(folder).free
    if total > free:
        raise DataError(
            f"{what} resized take {total / 1e9:,.2f} GB, and {folder} has {free / 1e9:,.2f} GB free; "
            "set OIN_CACHE_DIR to another folder, or leave out --cache"
        )


def _read_index(path: Path) -> _Index | None:
    """The index, or None if it or the pixels are absent, cut short or of other images."""
    try:
        with np.load(path.with_suffix(".npz"), allow_pickle=False) as file:
            index = _Index(file["starts"], file["shapes"], file["checksums"])
            if str(file["name"]) != path.stem:
                return None
        whole = int(index.starts[-1] + 3 * index.shapes[-1].prod())
        return index if path.stat().st_size == whole else None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
