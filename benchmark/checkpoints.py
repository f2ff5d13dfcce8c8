"""Checkpoints that are whole or absent, and the newest one that can be read."""

import contextlib
import io
import os
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.plugins.io import CheckpointIO

KEEP = 2


class AtomicCheckpointIO(CheckpointIO):
    """Writes next to the target, syncs, then renames; reads tensors and plain values only, never code."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        path, data = Path(path), io.BytesIO()
        torch.save(checkpoint, data)  # not to the file itself: torch would hide why a write fails
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise

    def load_checkpoint(
        self, path: Any, map_location: Callable | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        return torch.load(path, map_location=map_location or "cpu", weights_only=True)

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)


class EpochRecorder(Checkpoint):
    """At the end of each epoch hands its metrics on, then saves ``epoch-NNNN.ckpt`` and keeps the last ``KEEP``.

    Lightning calls callbacks of type ``Checkpoint`` last, when all metrics of the epoch are known. Metrics come
    first: a kill in between repeats the epoch, and never leaves one out of the record.
    """

    def __init__(self, folder: Path, record: Callable[[int, Mapping[str, float]], None]) -> None:
        self.folder, self.record = folder, record

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self.record(trainer.current_epoch, metrics)
        trainer.save_checkpoint(self.folder / f"epoch-{trainer.current_epoch:04d}.ckpt")
        for path in list_checkpoints(self.folder)[:-KEEP]:
            path.unlink()


def list_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints of a run, oldest first."""
    return sorted(folder.glob("epoch-*.ckpt"))


def check_whole(path: Path) -> None:
    """Raises:
    Exception: the file is cut short, altered, or more than tensors and plain values.

    torch reads a file with a flipped bit without complaint, but writes the checksum of each of its parts.
    """
    with zipfile.ZipFile(path) as file:
        if damaged := file.testzip():
            raise ValueError(f"{damaged} is damaged")
    torch.load(path, map_location="cpu", weights_only=True)


def newest_valid(folder: Path) -> Path | None:
    """The newest checkpoint that can be read, or None if there is none at all.

    Leftovers of interrupted writes are removed. Unreadable checkpoints are passed over with a warning.

    Raises:
        RuntimeError: checkpoints exist and none can be read.
    """
    for leftover in folder.glob("*.tmp"):
        leftover.unlink()
    checkpoints = list_checkpoints(folder)
    for path in reversed(checkpoints):
        try:
            check_whole(path)
        except Exception as error:
            reason = str(error).split(". ")[0]
            warnings.warn(f"{path} cannot be read ({reason}); trying the one before", stacklevel=2)
        else:
            return path
    if checkpoints:
        raise RuntimeError(f"no checkpoint in {folder} can be read; remove the folder to start over")
    return None
