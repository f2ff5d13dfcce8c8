"""Small photographs in train/ and val/ classes, for several tests."""

import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from datamodules import ImageNetDataModule

SAMPLE = Path(__file__).parents[2].parent / "shared" / "data" / "imagenet-sample-250.tar"


def pixels(seed: int = 0, height: int = 30, width: int = 40) -> np.ndarray:
    """(height, width, 3), coarse noise: what JPEG keeps nearly as it is."""
    coarse = np.random.default_rng(seed).integers(0, 256, (-(-height // 8), -(-width // 8), 3), dtype=np.uint8)
    return coarse.repeat(8, 0).repeat(8, 1)[:height, :width]


def encode(image: np.ndarray | Image.Image, format: str = "JPEG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(buffer, format, **({"quality": 95} if format == "JPEG" else {}) | options)
    return buffer.getvalue()


def write_photographs(
    folder: Path, classes: Iterable[str] = ("cat", "dog"), train: int = 6, test: int = 2, val: str = "val"
) -> Path:
    """JPEGs of different shapes: so many of each class."""
    seed = 0
    for split, count in (("train", train), (val, test)):
        for label in classes:
            (folder / split / label).mkdir(parents=True)
            for number in range(count):
                seed += 1
                shape = {"height": 24 + seed % 5 * 6, "width": 60 - seed % 7 * 6}
                (folder / split / label / f"{number}.JPEG").write_bytes(encode(pixels(seed, **shape)))
    return folder


def loaded(folder, **options):
    settings = {"image_size": 16, "batch_size": 5, "eval_batch_size": 3, "workers": 0} | options
    datamodule = ImageNetDataModule(folder, **settings)
    datamodule.prepare_data()
    datamodule.setup()
    return datamodule


def epoch(stream, number=0):
    stream.sampler.set_epoch(number)
    return [(images.clone(), labels.clone()) for images, labels in stream]


def same(some, others):
    return len(some) == len(others) and all(
        torch.equal(a, b) for one, other in zip(some, others, strict=True) for a, b in zip(one, other, strict=True)
    )
