"""ImageNet's official archives, extracted through torchvision into train/<wnid>/ and val/<wnid>/."""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock
from torchvision.datasets import imagenet

from datamodules.errors import DataError


def extract_archives(folder: Path) -> None:
    """Extract the archives that lie in ``folder``, unless that was done; a folder without any is left alone.

    torchvision checks their MD5 first. A split appears under its name when all of it is there.

    Raises:
        DataError: an archive is missing or damaged, or there is no room.
    """
    archives = {split: folder / name for split, (name, _) in imagenet.ARCHIVE_META.items()}
    if not any(path.is_file() for path in archives.values()):
        return
    extract = {"train": imagenet.parse_train_archive, "val": imagenet.parse_val_archive}
    if all((folder / split).is_dir() for split in extract):
        return
    try:
        with FileLock(folder / ".extract.lock"):
            for split, parse in extract.items():
                if not (folder / split).is_dir():
                    _extract(folder, split, archives, parse)
    except OSError as error:
        raise DataError(f"{folder} cannot be used: {error.strerror or error}") from error


def _extract(folder: Path, split: str, archives: dict[str, Path], parse: Callable[..., None]) -> None:
    needed = [archives[split]] + ([archives["devkit"]] if split == "val" else [])
    if missing := [path.name for path in needed if not path.is_file()]:
        raise DataError(f"{folder} lacks {' and '.join(missing)}, or the folder {split}/ in its place")
    size, free = archives[split].stat().st_size, shutil.disk_usage(folder).free
    if size > free:
        raise DataError(
            f"{archives[split].name} takes {size / 1e9:,.0f} GB, and {folder} has {free / 1e9:,.0f} GB free"
        )
    print(f"extracting {archives[split].name} into {folder / split} (once)", file=sys.stderr)
    partial = f".{split}.partial"
    shutil.rmtree(folder / partial, ignore_errors=True)
    try:
        if split == "val":
            imagenet.parse_devkit_archive(folder)
        parse(folder, folder=partial)
    except RuntimeError as error:
        raise DataError(f"{archives[split]} is damaged: its MD5 is not the official one; fetch it again") from error
    os.rename(folder / partial, folder / split)
