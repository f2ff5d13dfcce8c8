"""What images a folder of train/<class>/ and val/<class>/ holds, and whether it is all of ImageNet.

Nothing is opened, since ImageNet has 1.3 million files of 150 GB: the checksum is of names and sizes, and a damaged
image is found when it is read.
"""

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from datamodules.errors import DataError
from datamodules.images import MAX_FILE_BYTES, SUFFIXES

WNID = re.compile(r"n\d{8}")
CLASSES, TRAIN_IMAGES, VAL_IMAGES, VAL_PER_CLASS = 1000, 1_281_167, 50_000, 50
TRAIN_PER_CLASS = (732, 1300)
"""Of ImageNet (ILSVRC 2012): the fewest and the most images of a class."""

ANNOTATIONS = "val_annotations.txt"
"""Tiny-ImageNet has its validation images in one folder, and their classes in this file."""

THREADS = 16
"""To look through folders with: they wait for the disk or the network."""


@dataclass(frozen=True, eq=False)
class Split:
    """Images in the order of their classes: ``names`` (N,) are paths below ``folder`` as bytes, ``labels`` (N,).

    An array of bytes, since a list of a million texts would be copied into every worker by its reference counts.
    """

    folder: Path
    names: np.ndarray
    labels: Tensor

    def __len__(self) -> int:
        return len(self.names)

    def path(self, index: int) -> Path:
        return self.folder / os.fsdecode(self.names[index])


@dataclass(frozen=True, eq=False)
class Listing:
    """What a folder holds. ``name`` says whether it is ImageNet; ``format`` is JPEG, PNG, ... or mixed.

    ``checksum`` is of names and sizes, so that copies have the same one; ``stamp`` also of when files changed.
    """

    name: str
    class_names: tuple[str, ...]
    train: Split
    test: Split
    format: str
    checksum: str
    stamp: str


def list_images(path: str | Path, subset: bool = False) -> Listing:
    """Look through a folder, or the one folder in it that has train/.

    Args:
        path: with train/<class>/ and val/<class>/, or test/<class>/ if there is no val/.
        subset: take a part of ImageNet, and name it so.

    Raises:
        DataError: the folders cannot be read, train and test do not hold the same two or more classes, val/ and
            test/ both could be the test set, a file is empty or not a plain file, or it seems to be ImageNet and is
            not complete.
    """
    path = Path(path)
    try:
        path.stat()
        listing = _list(path)
    except FileNotFoundError as error:
        wanted = "give a folder with train/ and val/, or ImageNet's archives (--data-dir)"
        raise DataError(f"{error.filename or path} does not exist; {wanted}") from error
    except OSError as error:
        raise DataError(f"{error.filename or path} cannot be read: {error.strerror or error}") from error
    if not subset and (lacking := _what_is_missing(listing)):
        raise DataError(f"{path} is not all of ImageNet: {lacking}; complete it, or take it as a subset (--subset)")
    return listing


def check_unchanged(listing: Listing) -> None:
    """To be called when the images have been read, before anything is kept of them under their checksum.

    Raises:
        DataError: they are other images now than ``listing`` says.
    """
    folder = listing.train.folder.parent
    if list_images(folder, subset=True).stamp != listing.stamp:
        raise DataError(f"{folder} changed while it was read; call the same command again")


def _list(path: Path) -> Listing:
    root = _root(path)
    train, test = root / "train", root / "val"
    test = test if test.is_dir() else root / "test"
    train_files, test_files = _list_split(train), _list_split(test)
    for folder, files in ((train, train_files), (test, test_files)):
        if not files:
            raise DataError(
                f"{path} has no images in {folder.name}/<class>/; it needs train/<class>/ and val/<class>/"
            )
    if different := sorted(train_files.keys() ^ test_files.keys()):
        shown = ", ".join(different[:3]) + (", ..." if len(different) > 3 else "")
        raise DataError(
            f"{path} has {len(train_files)} classes in train/ and {len(test_files)} in {test.name}/; "
            f"they must be the same, and differ in {shown}"
        )
    if test.name == "val" and any((root / "test" / name).is_dir() for name in train_files):
        raise DataError(
            f"{path} has val/ and test/ of the same classes, each of which could be the test set; move one away"
        )
    if len(train_files) < 2:
        raise DataError(f"{path} has only one class, {next(iter(train_files))}; it needs two or more")
    class_names = tuple(sorted(train_files))
    digest, stamp, formats = hashlib.sha256(), hashlib.sha256(), set()
    for split, files in (("train", train_files), ("test", test_files)):
        for label in class_names:
            for name, size, modified in files[label]:
                digest.update(f"{split}/{label}/{name}\0{size}\n".encode("utf-8", "surrogateescape"))
                stamp.update(f"{modified}\n".encode())
                formats.add(SUFFIXES[os.path.splitext(name)[1].lower()])
    train_split, test_split = (
        _split(folder, files, class_names) for folder, files in ((train, train_files), (test, test_files))
    )
    return Listing(
        name=_name(root, class_names, train_split, test_split),
        class_names=class_names,
        train=train_split,
        test=test_split,
        format=formats.pop() if len(formats) == 1 else "mixed",
        checksum=f"sha256:{digest.hexdigest()}",
        stamp=f"{digest.hexdigest()} {stamp.hexdigest()}",
    )


Files = dict[str, list[tuple[str, int, int]]]
"""Of each class the files, each with its path below the split's folder, its bytes and when it changed, sorted."""


def _root(path: Path) -> Path:
    """The folder itself, or the one in it that has train/: archives often have one more level."""
    if not path.is_dir():
        raise DataError(f"{path} is not a folder; unpack it, so that it has train/ and val/")
    if (path / "train").is_dir():
        return path
    roots = sorted(p for p in path.iterdir() if (p / "train").is_dir())
    if len(roots) > 1:
        raise DataError(f"{path} has several data sets, {roots[0].name} and {roots[1].name}; give one of them")
    if not roots:
        raise DataError(
            f"{path} has no train/ folder; it needs train/<class>/ and val/<class>/, or ImageNet's archives"
        )
    return roots[0]


def _list_split(folder: Path) -> Files:
    if not folder.is_dir():
        return {}
    if (folder / ANNOTATIONS).is_file():
        return _list_annotated(folder)
    classes = sorted(
        entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith(".")
    )
    with ThreadPoolExecutor(THREADS) as pool:
        found = pool.map(lambda name: sorted(_files(folder / name, f"{name}/")), classes)
    return {name: files for name, files in zip(classes, found, strict=True) if files}


def _list_annotated(folder: Path) -> Files:
    """Files in images/, their classes in the annotations."""
    found, files = {file[0]: file for file in _files(folder, "")}, {}
    for number, line in enumerate((folder / ANNOTATIONS).read_text(encoding="utf-8").splitlines(), 1):
        name, *label = line.split("\t")[:2]
        if not label or f"images/{name}" not in found:
            raise DataError(f"{folder / ANNOTATIONS}, line {number}: no image and class, but {line!r}")
        files.setdefault(label[0], []).append(found[f"images/{name}"])
    return {label: sorted(own) for label, own in files.items()}


def _files(folder: Path, prefix: str, deeper: bool = True) -> Iterator[tuple[str, int, int]]:
    """Images in a folder, and in the folders right in it."""
    for entry in os.scandir(folder):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            if deeper:
                yield from _files(folder / entry.name, f"{prefix}{entry.name}/", deeper=False)
        elif os.path.splitext(entry.name)[1].lower() in SUFFIXES:
            status = entry.stat()
            if not stat.S_ISREG(status.st_mode):
                raise DataError(f"{entry.path} is not a plain file; put an image there")
            if not 0 < status.st_size <= MAX_FILE_BYTES:
                raise DataError(f"{entry.path} has {status.st_size:,} bytes; no image has; fetch it again")
            yield f"{prefix}{entry.name}", status.st_size, status.st_mtime_ns


def _split(folder: Path, files: Files, class_names: tuple[str, ...]) -> Split:
    names = [os.fsencode(name) for label in class_names for name, *_ in files[label]]
    counts = torch.tensor([len(files[label]) for label in class_names])
    return Split(folder, np.array(names, dtype=np.bytes_), torch.arange(len(class_names)).repeat_interleave(counts))


def _name(root: Path, class_names: tuple[str, ...], train: Split, test: Split) -> str:
    if not _claims_imagenet(class_names):
        return f"image folder {root.resolve().name}"
    if (len(class_names), len(train), len(test)) == (CLASSES, TRAIN_IMAGES, VAL_IMAGES):
        return "ImageNet"
    return f"subset of ImageNet, {len(train):,} images of {len(class_names):,} classes"


def _claims_imagenet(class_names: tuple[str, ...]) -> bool:
    """More than half as many classes as ImageNet, and all named as its: Imagenette and Tiny-ImageNet have fewer."""
    return CLASSES < 2 * len(class_names) <= 2 * CLASSES and all(map(WNID.fullmatch, class_names))


def _what_is_missing(listing: Listing) -> str | None:
    """What tells the listing from the complete ImageNet; None for that, and for other data sets."""
    if not _claims_imagenet(listing.class_names):
        return None
    if len(listing.class_names) != CLASSES:
        return f"it has {len(listing.class_names)} of {CLASSES:,} classes"
    return _wrong_counts(listing, listing.train, TRAIN_IMAGES, TRAIN_PER_CLASS) or _wrong_counts(
        listing, listing.test, VAL_IMAGES, (VAL_PER_CLASS, VAL_PER_CLASS)
    )


def _wrong_counts(listing: Listing, split: Split, expected: int, per_class: tuple[int, int]) -> str | None:
    counts = torch.bincount(split.labels, minlength=len(listing.class_names)).tolist()
    wrong = [
        (name, n)
        for name, n in zip(listing.class_names, counts, strict=True)
        if not per_class[0] <= n <= per_class[1]
    ]
    if not wrong and len(split) == expected:
        return None
    text = f"{split.folder.name}/ has {len(split):,} images, not {expected:,}"
    if wrong:
        right = f"{per_class[0]:,} to {per_class[1]:,}" if per_class[0] < per_class[1] else f"{per_class[0]:,}"
        text += f" ({wrong[0][0]} has {wrong[0][1]:,}, where {right} would be right"
        text += f"; {len(wrong) - 1:,} more classes are wrong)" if len(wrong) > 1 else ")"
    return text
