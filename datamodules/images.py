"""Images in train/<class>/ and test/<class>/, in a folder or a tar: found, checked and read, never unpacked."""

import bz2
import contextlib
import gzip
import hashlib
import lzma
import os
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from datamodules.errors import DataError

SUFFIXES = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".bmp": "BMP", ".webp": "WebP", ".ppm": "PPM"}
ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
SPLITS = {"train": "train", "test": "test", "val": "test"}
MAX_FILE_BYTES = 64 * 2**20
MAX_HEADER_BYTES = 2**20
COMPRESSIONS = {b"\x1f\x8b": gzip.open, b"BZ": bz2.open, b"\xfd7": lzma.open}


@dataclass(frozen=True)
class ImageFile:
    """One image: its name in the folder or archive, where it belongs, and the folder that says so, such as val/."""

    name: str
    split: str
    label: str
    folder: PurePosixPath


@dataclass(frozen=True)
class ImageFolderInfo:
    """What a folder or archive holds. ``format`` is JPEG, PNG, ... or mixed; ``files`` are sorted."""

    path: Path
    class_names: tuple[str, ...]
    num_train: int
    num_test: int
    format: str
    checksum: str
    files: tuple[ImageFile, ...]


def is_archive(path: Path) -> bool:
    return path.is_file() and path.name.lower().endswith(ARCHIVES)


def is_image_folder(path: str | Path) -> bool:
    """Whether ``path`` is meant as images: a tar, or a folder with train/ and test/ (or val/)."""
    path = Path(path)
    if not path.is_dir():
        return path.is_file()
    return any(os.path.isdir(root / "train") for root in _roots(path))  # unlike Path's, False if it cannot be asked


def scan_images(path: str | Path) -> ImageFolderInfo:
    """Look through a folder or archive without decoding an image.

    Raises:
        DataError: it is missing or unreadable, an archive is cut short, has a name twice or has links or names that
            lead outside, there are several data sets, train and test do not hold the same two or more classes,
            each with images, or there are val/ and test/.
    """
    path = Path(path)
    try:
        path.stat()
        return _scan(path)
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; give a folder or tar with train/ and test/ classes") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def check_unchanged(info: ImageFolderInfo) -> None:
    """To be called when the images have been read, before anything is kept of them under their checksum.

    Raises:
        DataError: they are other images now than ``info`` says.
    """
    if scan_images(info.path).checksum != info.checksum:
        raise DataError(f"{info.path} changed while it was read; call the same command again")


def _scan(path: Path) -> ImageFolderInfo:
    if path.is_dir():
        names, checksum = _scan_folder(path)
    elif is_archive(path):
        names, checksum = _scan_archive(path)
    else:
        raise DataError(f"{path} is neither a folder nor a tar ({', '.join(ARCHIVES)})")
    files = sorted(filter(None, map(_classify, names)), key=lambda f: (f.split, f.label, f.name))
    classes = {split: {f.label for f in files if f.split == split} for split in ("train", "test")}
    for split, labels in classes.items():
        if not labels:
            raise DataError(f"{path} has no images in {split}/<class>/; it needs train/<class>/ and test/<class>/")
    _check_sets(path, {f.folder for f in files})
    times = Counter(PurePosixPath(f.name) for f in files)
    if twice := [name for name, count in times.items() if count > 1]:
        raise DataError(f"{path} has {twice[0]} twice; repack it, since tar -r keeps the old entry")
    if different := sorted(classes["train"] ^ classes["test"]):
        shown = ", ".join(different[:3]) + (", ..." if len(different) > 3 else "")
        raise DataError(f"{path} has classes that differ between train and test: {shown}")
    if len(classes["train"]) < 2:
        raise DataError(f"{path} has only one class, {next(iter(classes['train']))}; it needs two or more")
    formats = {SUFFIXES[PurePosixPath(f.name).suffix.lower()] for f in files}
    train = sum(f.split == "train" for f in files)
    return ImageFolderInfo(
        path=path,
        class_names=tuple(sorted(classes["train"])),
        num_train=train,
        num_test=len(files) - train,
        format=formats.pop() if len(formats) == 1 else "mixed",
        checksum=f"sha256:{checksum}",
        files=tuple(files),
    )


def read_images(info: ImageFolderInfo) -> Iterator[tuple[ImageFile, bytes]]:
    """The bytes of every image, in the order in which they lie.

    Raises:
        DataError: they cannot be read, or no longer.
    """
    try:
        yield from _read(info)
    except OSError as error:
        raise DataError(f"{error.filename or info.path} cannot be read: {error.strerror or error}") from error


def _read(info: ImageFolderInfo) -> Iterator[tuple[ImageFile, bytes]]:
    wanted = {file.name: file for file in info.files}
    if info.path.is_dir():
        for name, file in wanted.items():
            yield file, (info.path / name).read_bytes()
        return
    with _open_tar(info.path) as archive:
        for member in archive:
            if member.isfile() and (file := wanted.get(member.name)):
                yield file, archive.extractfile(member).read()


def _roots(path: Path) -> Iterator[Path]:
    """The folder itself, and those up to two levels down that can be read: archives often have another level."""
    yield path
    children = _folders(path)
    yield from children
    for child in children:
        with contextlib.suppress(DataError):  # as that of a disk's lost+found
            yield from _folders(child)


def _folders(path: Path) -> list[Path]:
    try:
        return sorted(p for p in path.iterdir() if p.is_dir())
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def _check_sets(path: Path, folders: set[PurePosixPath]) -> None:
    """Raises:
    DataError: not all folders are train/ and test/ of one data set.
    """
    roots = sorted({folder.parent for folder in folders})
    if len(roots) > 1:
        raise DataError(f"{path} has several data sets, in {roots[0]}/ and {roots[1]}/; it must have one")
    if {"val", "test"} <= {folder.name for folder in folders}:
        raise DataError(f"{path} has val/ and test/, each of which could be the test set; take one of them away")


def _classify(name: str) -> ImageFile | None:
    """``[top/[top/]]split/class/[folder/]file`` as an ImageFile; None for anything else."""
    path = PurePosixPath(name)
    if path.suffix.lower() not in SUFFIXES or path.name.startswith("."):
        return None
    for folder in path.parents[1:3]:  # what holds the class
        if folder.name in SPLITS and len(folder.parts) <= 3:
            return ImageFile(name, SPLITS[folder.name], path.relative_to(folder).parts[0], folder)
    return None


def _scan_folder(path: Path) -> tuple[list[str], str]:
    names, digest = [], hashlib.sha256()
    for file in sorted(path.rglob("*")):
        if file.suffix.lower() not in SUFFIXES:
            continue
        if file.is_symlink():
            raise DataError(f"{file} is a symbolic link; put the image itself there")
        if not file.is_file():
            raise DataError(f"{file} is not a plain file; put an image there")
        name = file.relative_to(path).as_posix()
        digest.update(f"{name}\0".encode("utf-8", "surrogateescape"))
        digest.update(hashlib.sha256(file.read_bytes()).digest())
        names.append(name)
    return names, digest.hexdigest()


def _scan_archive(path: Path) -> tuple[list[str], str]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    names = []
    try:
        with _open_tar(path, tarinfo=_StrictTarInfo) as archive:
            for member in archive:
                _check_member(path, member)
                if member.isfile():
                    names.append(member.name)
    except DataError:
        raise
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        raise DataError(f"{path} is not a whole archive ({error or 'cut short'}); fetch it again") from error
    except Exception as error:  # zlib.error and lzma.LZMAError have no base class in common
        raise DataError(f"{path} is damaged ({error}); fetch it again") from error
    return names, digest


@contextlib.contextmanager
def _open_tar(path: Path, **options: Any) -> Iterator[tarfile.TarFile]:
    """The members in turn, then the rest of the stream: its checksum is at the end, and tarfile ignores gzip's.

    Raises:
        DataError: what follows the members is far longer than padding.
        OSError and others: as ``_scan_archive`` has them.
    """
    with path.open("rb") as file:
        start = file.read(2)
    unpack = COMPRESSIONS.get(start, open)
    with unpack(path, "rb") as stream, tarfile.open(fileobj=stream, mode="r|", **options) as archive:
        yield archive
        for _ in range(MAX_FILE_BYTES >> 20):
            if not stream.read(1 << 20):
                return
        raise DataError(f"{path} goes on after its end")


class _StrictTarInfo(tarfile.TarInfo):
    """Misses the end marker of a tar that was cut between two members, which Python takes for whole.

    Also refuses a name or header that claims to be huge: it would be read into memory.
    """

    @classmethod
    def frombuf(cls, buf: bytes, encoding: str, errors: str) -> tarfile.TarInfo:
        if not buf:
            raise tarfile.ReadError("no end of archive")
        member = super().frombuf(buf, encoding, errors)
        if member.size > MAX_HEADER_BYTES and member.type not in (*tarfile.REGULAR_TYPES, tarfile.DIRTYPE):
            raise tarfile.ReadError(f"a header of {member.size:,} bytes")
        return member


def _check_member(path: Path, member: tarfile.TarInfo) -> None:
    parts = PurePosixPath(member.name).parts
    if member.name.startswith("/") or ".." in parts:
        raise DataError(f"{path} has a name that leads outside: {member.name!r}")
    if not (member.isfile() or member.isdir()):
        raise DataError(f"{path} has a link or device in it: {member.name!r}; it must hold plain files only")
    if member.size > MAX_FILE_BYTES:
        raise DataError(f"{path} has a file of {member.size:,} bytes: {member.name!r}; images are far smaller")
