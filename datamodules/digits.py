"""scikit-learn's handwritten digits: real images that need no download."""

import hashlib
from functools import lru_cache

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from datamodules.array import ArrayDataModule, Arrays
from datamodules.errors import DataError

TEST_IMAGES = 500


@lru_cache
def _arrays() -> tuple[np.ndarray, np.ndarray]:
    """Images (1797, 8, 8, 1) uint8, their 17 grey levels stretched to 0..255, and labels (1797,)."""
    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    return images, digits.target.astype(np.int64)


class DigitsDataModule(ArrayDataModule):
    """1,797 images of 8 x 8 grey pixels, ten classes; 1,297 to train and 500 to test, stratified, always the same.

    Raises:
        DataError: ``augment`` is set: a flipped digit is another digit, and 4 pixels are half of an image.
    """

    def __init__(self, batch_size: int = 64, augment: bool = False, **options: int) -> None:
        super().__init__(batch_size, augment, **options)
        if augment:
            raise DataError("digits cannot be cropped and flipped; use augment=False")

    @property
    def identity(self) -> dict[str, str]:
        images, labels = _arrays()
        checksum = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
        return {"name": "digits", "source": "scikit-learn", "checksum": f"sha256:{checksum}"}

    def load(self) -> Arrays:
        images, labels = _arrays()
        train, test = train_test_split(
            np.arange(len(labels)), test_size=TEST_IMAGES, stratify=labels, random_state=0, shuffle=True
        )
        images, labels = torch.from_numpy(images), torch.from_numpy(labels)
        return Arrays(images[train], labels[train], images[test], labels[test], tuple("0123456789"))
