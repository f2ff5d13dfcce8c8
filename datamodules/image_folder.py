"""Any folder or tar of images in train/ and test/ classes, decoded once into a cached uint8 array."""

import hashlib
import math
import os
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image, ImageOps

from datamodules.array import ArrayDataModule, Arrays, check_numbers
from datamodules.cache import cache_folder, make_once, replace_atomically, user_path
from datamodules.decoding import open_image, to_rgb
from datamodules.errors import DataError
from datamodules.images import (
    ImageFile,
    ImageFolderInfo,
    check_unchanged,
    read_images,
    scan_images,
)
from datamodules.parallel import map_in_order, show_progress

CACHE_VERSION = 3
SMALL = 4096
"""Bytes of an encoded image up to which threads gain nothing: most of its decoding is Python's."""
LOOKED_AT = 64
"""Images whose median size tells whether a set's are ``SMALL``."""


class ImageFolderDataModule(ArrayDataModule):
    """Images in ``train/<class>/`` and ``test/<class>/`` (or ``val/``), up to two folders down, in a folder or tar.

    ``prepare_data`` decodes them once, photographs in parallel, into one uint8 array in the cache. The cache is
    keyed by the content, written whole or not at all, and checked when it is read; several processes share one
    decoding.

    Args:
        data_dir: the folder or tar.
        image_size: resize the shorter side to this many pixels and crop the centre. None keeps images as they are;
            they must then have one size.
        cache_dir: by default ``$OIN_CACHE_DIR``, or ``~/.cache/optimizer-inspired-networks``.
        workers: decoding threads, by default one a core, or one alone for images of at most ``SMALL`` bytes.
        name: of the data set, by default the folder's or tar's.
        batch_size, augment, validation, seed, eval_batch_size: see ``ArrayDataModule``.

    Raises:
        DataError: a number is out of range, or (from ``prepare_data`` and ``identity``) the images cannot be used;
            see ``scan_images``.
    """

    def __init__(
        self,
        data_dir: str | Path,
        image_size: int | None = None,
        cache_dir: str | Path | None = None,
        workers: int | None = None,
        name: str | None = None,
        batch_size: int = 64,
        augment: bool = True,
        **options: int,
    ) -> None:
        super().__init__(batch_size, augment, **options)
        given = {"image_size": image_size, "workers": workers}
        check_numbers(**{name: value for name, value in given.items() if value is not None})
        self.data_dir, self.name = user_path(data_dir), name
        self.image_size, self.workers = image_size, workers
        self.cache_dir = cache_folder(cache_dir)

    @cached_property
    def info(self) -> ImageFolderInfo:
        """What was there when it was asked for first."""
        return scan_images(self.data_dir)

    @property
    def identity(self) -> dict[str, str]:
        info, name = self.info, folder_name(self.data_dir)
        return {
            "name": self.name or name.split(".")[0],
            "source": f"image folder {name} ({info.format})",
            "checksum": info.checksum,
        }

    @property
    def cache(self) -> Path:
        """The array's file, named after the content."""
        key = f"{CACHE_VERSION} {self.info.checksum} {self.image_size}"
        return self.cache_dir / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.npy"

    def prepare_data(self) -> None:
        make_once(self.cache, lambda: _read_cache(self.cache) is not None, self._make)

    def _make(self) -> None:
        info, images = self.info, self._decode()
        check_unchanged(info)
        _write_cache(self.cache, images)

    def load(self) -> Arrays:
        images = _read_cache(self.cache)
        if images is None:
            raise DataError(
                f"the decoded images of {self.data_dir} are not in {self.cache_dir}; call prepare_data()"
            )
        info = self.info
        labels = torch.tensor([info.class_names.index(file.label) for file in info.files])
        is_train = torch.tensor([file.split == "train" for file in info.files])
        images = torch.from_numpy(images)
        return Arrays(images[is_train], labels[is_train], images[~is_train], labels[~is_train], info.class_names)

    def _decode(self) -> np.ndarray:
        """(N, H, W, 3) uint8 in the order of ``info.files``."""
        info = self.info
        position = {file.name: i for i, file in enumerate(info.files)}
        encoded = read_images(info)
        first = list(islice(encoded, LOOKED_AT))
        are_small = bool(first) and median(len(data) for _, data in first) <= SMALL
        workers = self.workers or (1 if are_small else os.cpu_count() or 1)

        def decode(item: tuple[ImageFile, bytes]) -> tuple[ImageFile, np.ndarray]:
            return item[0], decode_image(item[1], f"{folder_name(info.path)}: {item[0].name}", self.image_size)

        images: np.ndarray | None = None
        with ThreadPoolExecutor(workers) as pool:
            decoded = map_in_order(pool, decode, chain(first, encoded), ahead=64 * workers)
            for file, image in show_progress(decoded, len(info.files), *_announcement(info)):
                if images is None:
                    images = _allocate((len(info.files), *image.shape), info.path)
                if image.shape != images.shape[1:]:
                    sizes = " and ".join(f"{s[1]} x {s[0]}" for s in (images.shape[1:], image.shape))
                    raise DataError(f"{info.path} has images of different sizes ({sizes}); pass image_size")
                images[position[file.name]] = image
        assert images is not None
        return images


def folder_name(path: Path) -> str:
    """Of a folder or tar, also where the path is ``.``; of a link, the link's."""
    return os.path.basename(os.path.abspath(path))


def _announcement(info: ImageFolderInfo) -> tuple[str, str]:
    name = folder_name(info.path)
    return f"decoding {name}", f"decoding {len(info.files):,} images of {name} (once)"


def _allocate(shape: tuple[int, ...], path: Path) -> np.ndarray:
    """Raises:
    DataError: the machine does not have that much memory.
    """
    size, memory = math.prod(shape), os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if size > memory:
        raise DataError(
            f"{path} would take {size / 2**30:,.0f} GiB of memory, of {memory / 2**30:,.0f}: "
            f"{shape[0]:,} images of {shape[2]} x {shape[1]} pixels; pass image_size"
        )
    return np.empty(shape, np.uint8)


def decode_image(data: bytes, name: str, image_size: int | None = None) -> np.ndarray:
    """(H, W, 3) uint8 of one encoded image, turned as its EXIF orientation says.

    Raises:
        DataError: it is damaged or too large; ``name`` says which.
    """
    with open_image(data, name) as image:
        image = to_rgb(image)
        if image_size:
            image = ImageOps.fit(image, (image_size, image_size), Image.Resampling.BICUBIC)
        return np.asarray(image)


def _write_cache(path: Path, images: np.ndarray) -> None:
    """The array and its checksum beside it; the checksum comes first, so an array never lacks one."""
    digest = _digest(path, images)
    replace_atomically(path.with_suffix(".sha256"), lambda file: file.write(digest.encode()))
    replace_atomically(path, lambda file: np.save(file, images))


def _digest(path: Path, images: np.ndarray) -> str:
    """SHA-256 of the array and of its name, which stands for the content: a cache of other images does not fit."""
    digest = hashlib.sha256(f"{path.stem} {images.shape} {images.dtype}".encode())
    digest.update(np.ascontiguousarray(images))
    return digest.hexdigest()


def _read_cache(path: Path) -> np.ndarray | None:
    """The array, or None if it is absent, cut short, altered or of other images."""
    try:
        images = np.load(path, allow_pickle=False)
        digest = path.with_suffix(".sha256").read_text()
    except (OSError, ValueError, EOFError):
        return None
    return images if _digest(path, images) == digest else None
