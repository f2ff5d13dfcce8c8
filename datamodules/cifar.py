"""CIFAR-10 and CIFAR-100 in their official release, through torchvision."""

import contextlib
import hashlib
import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from torchvision.datasets import CIFAR10, CIFAR100
from torchvision.datasets.utils import download_url

from datamodules.array import ArrayDataModule, Arrays
from datamodules.cache import user_path
from datamodules.errors import DataError


class CIFAR10DataModule(ArrayDataModule):
    """50,000 training and 10,000 test images of 32 x 32 pixels, ten classes.

    ``prepare_data`` downloads the archive into ``data_dir`` if it is not there, verified by MD5 and under a file
    lock, so that several processes that start at once share one download.

    Args:
        data_dir: where the archive is, or is put.
        download: False only uses what is there.
        batch_size, augment, validation, seed, eval_batch_size: see ``ArrayDataModule``.

    Raises:
        DataError: (from ``prepare_data``) no download, a damaged archive, or a folder that cannot be used.
    """

    dataset: type[CIFAR10] = CIFAR10
    title = "CIFAR-10"

    def __init__(
        self,
        data_dir: str | Path = "data",
        download: bool = True,
        batch_size: int = 64,
        augment: bool = True,
        **options: int,
    ) -> None:
        super().__init__(batch_size, augment, **options)
        self.data_dir, self.download = user_path(data_dir), download

    @property
    def identity(self) -> dict[str, str]:
        return {"name": self.title, "source": "official", "checksum": f"md5:{self.dataset.tgz_md5}"}

    @property
    def is_there(self) -> bool:
        """Whether ``data_dir`` holds the release, extracted or as its archive, whole or not."""
        return any((self.data_dir / name).exists() for name in (self.dataset.base_folder, self.dataset.filename))

    def prepare_data(self) -> None:
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True)
            with FileLock(self.data_dir / f".{self.dataset.base_folder}.lock"):
                if self._open(train=True) is None:
                    self._fetch()
        except OSError as error:
            raise DataError(f"data directory {self.data_dir} cannot be used: {error.strerror or error}") from error

    def load(self) -> Arrays:
        train, test = self._open(train=True), self._open(train=False)
        if train is None or test is None:
            raise DataError(f"{self.title} is not in {self.data_dir}; call prepare_data() first")
        return Arrays(*self._tensors(train), *self._tensors(test), class_names=tuple(train.classes))

    @staticmethod
    def _tensors(dataset: Any) -> tuple[torch.Tensor, torch.Tensor]:
        images = torch.from_numpy(np.ascontiguousarray(dataset.data))
        return images, torch.tensor(dataset.targets)

    def _open(self, train: bool) -> Any | None:
        """The extracted data set if it is there and its files have the right MD5."""
        try:
            return self.dataset(self.data_dir, train=train, download=False)
        except RuntimeError:
            return None

    def _fetch(self) -> None:
        archive, md5 = self.data_dir / self.dataset.filename, self.dataset.tgz_md5
        if archive.exists():
            with archive.open("rb") as file:
                actual = hashlib.file_digest(file, "md5").hexdigest()
            if actual != md5:
                raise DataError(
                    f"{archive} is cut short or altered (MD5 {actual}, not {md5}); replace or remove it"
                )
        elif self.download:
            self._download(archive)
        else:
            raise DataError(f"{archive} (MD5 {md5}) is not there and download is off")
        with _silent():
            self.dataset(self.data_dir, download=True)  # the archive is whole: this only extracts it

    def _download(self, archive: Path) -> None:
        """Into a folder of its own first, so that an interrupted download leaves no archive that looks whole."""
        md5 = self.dataset.tgz_md5
        prefix = f".download-{self.dataset.base_folder}-"  # another data set may be on its way beside this one
        for leftover in self.data_dir.glob(f"{prefix}*"):
            shutil.rmtree(leftover)
        try:
            with _silent(), tempfile.TemporaryDirectory(dir=self.data_dir, prefix=prefix) as folder:
                download_url(self.dataset.url, folder, archive.name, md5)
                os.replace(Path(folder) / archive.name, archive)
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise DataError(
                f"cannot download {self.title} ({reason}): put {archive.name} (MD5 {md5}) into "
                f"{self.data_dir.resolve()}, or try `make quickstart`, which needs no download"
            ) from error


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """torchvision prints what it does and draws a bar of its own."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


class CIFAR100DataModule(CIFAR10DataModule):
    """As ``CIFAR10DataModule``, a hundred classes."""

    dataset = CIFAR100
    title = "CIFAR-100"
