"""Which bytes a data set's name stands for, and the datamodule that serves them.

CIFAR comes from its official release, downloaded into ``data_dir``, or, if ``data_dir`` is a folder or tar of
images in train/ and test/ classes, from those: a copy if it has CIFAR's numbers of images, labelled as such and
never mixed with the official one, else an image folder under its own name.
``imagenet`` is what ``data_dir`` holds: ImageNet if it is complete, else an image folder under its own name.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from benchmark.errors import UserError
from benchmark.specs import DataSpec, RecipeSpec
from datamodules import (
    CIFAR10DataModule,
    CIFAR100DataModule,
    DataError,
    DigitsDataModule,
    ImageFolderDataModule,
    ImageNetDataModule,
)
from datamodules.archives import extract_archives
from datamodules.image_folder import folder_name
from datamodules.images import is_image_folder, scan_images
from datamodules.interface import ImageDataModule


@dataclass(frozen=True)
class Source:
    """A data set as it lies there. ``image_shape`` is (C, H, W)."""

    name: str
    source: str
    checksum: str
    num_classes: int
    image_shape: tuple[int, int, int]
    num_train: int
    num_test: int


OFFICIAL: dict[str, tuple[Callable[..., Any], int]] = {
    "cifar10": (CIFAR10DataModule, 10),
    "cifar100": (CIFAR100DataModule, 100),
}
TITLES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}
CIFAR_SHAPE = (3, 32, 32)
CIFAR_SIZES = (50_000, 10_000)
"""Training and test images."""


@lru_cache
def find_source(
    name: str, data_dir: Path, image_size: int = 0, resized: bool = False, subset: bool = False
) -> Source | None:
    """The source of a data set, without downloading or decoding; None if an image folder holds another one.

    ImageNet's archives, if there is nothing else, are extracted: nothing in them could be counted otherwise.

    Args:
        name: of a ``DataSpec``.
        data_dir: where it lies.
        image_size, resized, subset: of photographs; see ``ImageNetDataModule``.

    Raises:
        UserError: the folder or archive is unusable, has a class count that is no CIFAR's, or holds a part of
            ImageNet.
    """
    try:
        if name == "digits":
            datamodule = DigitsDataModule()
            datamodule.prepare_data()
            datamodule.setup()
            return _source(datamodule)
        if name == "imagenet":
            extract_archives(data_dir)
            return _source(ImageNetDataModule(data_dir, image_size, resized=resized, subset=subset))
        module, num_classes = OFFICIAL[name]
        if not _is_image_folder(data_dir):
            identity, (num_train, num_test) = module(data_dir=data_dir).identity, CIFAR_SIZES
            return Source(
                **identity, num_classes=num_classes, image_shape=CIFAR_SHAPE, num_train=num_train, num_test=num_test
            )
        info = scan_images(data_dir)
        count = len(info.class_names)
        if count not in (10, 100):
            raise UserError(f"{data_dir} has {count} classes; CIFAR-10 has 10 and CIFAR-100 has 100")
        if count != num_classes:
            return None
        whole, folder = (info.num_train, info.num_test) == CIFAR_SIZES, folder_name(data_dir)
        return Source(
            name=f"{TITLES[name]} ({info.format} copy)" if whole else f"image folder {folder.split('.')[0]}",
            source=f"image folder {folder}",
            checksum=info.checksum,
            num_classes=num_classes,
            image_shape=CIFAR_SHAPE,
            num_train=info.num_train,
            num_test=info.num_test,
        )
    except DataError as error:
        raise UserError(str(error)) from error


def _is_image_folder(data_dir: Path) -> bool:
    """Whether CIFAR's images are to be read from a folder or tar: not if an official release is there, too."""
    is_download = any(module(data_dir=data_dir).is_there for module, _ in OFFICIAL.values())
    return data_dir.exists() and is_image_folder(data_dir) and not is_download


def _source(datamodule: ImageDataModule) -> Source:
    return Source(
        **datamodule.identity,
        num_classes=datamodule.num_classes,
        image_shape=datamodule.image_shape,
        num_train=datamodule.num_train,
        num_test=datamodule.num_test,
    )


def identify(spec: DataSpec, source: Source) -> DataSpec:
    """The spec with the identity of its bytes filled in."""
    return replace(spec, source=source.name, checksum=source.checksum)


def create_datamodule(spec: DataSpec, data_dir: Path, recipe: RecipeSpec, seed: int) -> ImageDataModule:
    """The datamodule of a spec, with data prepared (downloaded, decoded) and loaded.

    Raises:
        UserError: the data cannot be had, or is not what the spec says.
    """
    options = {
        "batch_size": recipe.batch_size,
        "augment": spec.augment,
        "validation": spec.validation,
        "seed": seed,
    }
    try:
        if spec.name == "digits":
            datamodule = DigitsDataModule(**options)
        elif spec.name == "imagenet":
            # whether a part of ImageNet will do was settled when its source was found
            options |= {"resized": spec.resized, "subset": True}
            datamodule = ImageNetDataModule(data_dir, recipe.image_size, **options)
        elif _is_image_folder(data_dir):
            datamodule = ImageFolderDataModule(data_dir, name=spec.source, **options)
        else:
            datamodule = OFFICIAL[spec.name][0](data_dir=data_dir, **options)
        datamodule.prepare_data()
        datamodule.setup()
    except DataError as error:
        raise UserError(str(error)) from error
    if spec.name in OFFICIAL and datamodule.image_shape != CIFAR_SHAPE:
        height, width = datamodule.image_shape[1:]
        raise UserError(f"{data_dir} has images of {width} x {height} pixels; CIFAR's are 32 x 32")
    if datamodule.identity["checksum"] != spec.checksum:
        raise UserError(f"{data_dir} changed while the runs were planned; call the same command again")
    return datamodule
