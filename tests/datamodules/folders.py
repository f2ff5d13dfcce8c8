"""Small images in folders and archives, for several tests."""

import io
import multiprocessing
import tarfile

import numpy as np
from PIL import Image

from datamodules import ImageFolderDataModule


def png(seed=0, size=(8, 8), mode="RGB"):
    shape = (size[1], size[0], len(mode)) if len(mode) > 1 else (size[1], size[0])
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels, mode).save(buffer, "TIFF" if mode == "CMYK" else "PNG")
    return buffer.getvalue()


def tree(classes=("cat", "dog"), counts=(("train", 3), ("test", 2))):
    names = [f"{split}/{label}/{i}.png" for split, count in counts for label in classes for i in range(count)]
    return {name: png(seed) for seed, name in enumerate(names)}


def write_folder(path, files):
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def write_tar(path, files, mode="w:gz", members=()):
    with tarfile.open(path, mode) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for member in members:
            archive.addfile(member)
    return path


def loaded(path, **options):
    datamodule = ImageFolderDataModule(path, batch_size=2, **options)
    datamodule.prepare_data()
    datamodule.setup()
    return datamodule


def processes_that_share_imports():
    """A context whose processes are forked from one that has imported the datamodules, and nothing of the tests."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["datamodules"])
    return context
