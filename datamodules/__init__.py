"""Datamodules that serve images, from memory or from disk. Attributes load on first use, so the import is cheap."""

from importlib import import_module
from typing import Any

_HOME = {
    "CIFAR10DataModule": "datamodules.cifar",
    "CIFAR100DataModule": "datamodules.cifar",
    "DataError": "datamodules.errors",
    "DigitsDataModule": "datamodules.digits",
    "ImageFolderDataModule": "datamodules.image_folder",
    "ImageNetDataModule": "datamodules.imagenet",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
