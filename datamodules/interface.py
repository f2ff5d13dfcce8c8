"""What a run needs to know of its data, wherever the images are."""

from typing import Protocol


class ImageDataModule(Protocol):
    """A LightningDataModule of labelled images: ``ArrayDataModule`` in memory, ``ImageNetDataModule`` on disk."""

    @property
    def identity(self) -> dict[str, str]:
        """``name``, ``source`` and ``checksum`` of the data."""

    @property
    def num_classes(self) -> int: ...

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""

    @property
    def num_train(self) -> int:
        """Images that are trained on, without the held-out ones."""

    @property
    def num_test(self) -> int: ...
