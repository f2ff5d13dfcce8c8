"""Checkpoints that are whole or absent, and the newest one that can be read."""

import io
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.plugins.io import CheckpointIO

from datamodules.cache import replace_atomically

KEEP = 2

Rows = Sequence[Mapping[str, float]]
Parts = Sequence[Mapping[str, Any]]
"""Of a run, in order: how many ``epochs``, and the environment that trained them (``machine.environment``)."""


class AtomicCheckpointIO(CheckpointIO):
    """Writes next to the target, syncs, then renames; reads tensors and plain values only, never code."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        path, data = Path(path), io.BytesIO()
        torch.save(checkpoint, data)  # not to the file itself: torch would hide why a write fails
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_atomically(path, lambda file: file.write(data.getbuffer()))

    def load_checkpoint(
        self, path: Any, map_location: Callable | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        return torch.load(path, map_location=map_location or "cpu", weights_only=True)

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)


class EpochRecorder(Checkpoint):
    """At the end of each epoch hands its metrics on, then saves ``epoch-NNNN.ckpt`` and keeps the last ``KEEP``.

    In a group every process hands on, as its metrics may be needed; one of them writes.

    Lightning calls callbacks of type ``Checkpoint`` last, when all metrics of the epoch are known. Metrics come
    first: a kill in between repeats the epoch, and never leaves one out of the record. A checkpoint also holds the
    run's id and, of all its epochs so far, ``rows`` of metrics and ``parts``, so that a continued run rests on
    nothing else.
    """

    def __init__(
        self,
        folder: Path,
        run_id: str,
        rows: Rows,
        parts: Parts,
        record: Callable[[int, Mapping[str, float]], None],
    ) -> None:
        self.folder, self.run_id, self.rows, self.parts, self.record = folder, run_id, rows, parts, record

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint["run"] = {
            "id": self.run_id,
            "metrics": [dict(row) for row in self.rows],
            "parts": [dict(part) for part in self.parts],
        }

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self.record(trainer.current_epoch, metrics)
        trainer.save_checkpoint(self.folder / f"epoch-{trainer.current_epoch:04d}.ckpt")
        if trainer.is_global_zero:
            for path in list_checkpoints(self.folder)[:-KEEP]:
                path.unlink()


@dataclass(frozen=True)
class Saved:
    """A checkpoint that can be continued, and what it holds: ``rows`` of metrics, one an epoch, and ``parts``."""

    path: Path
    rows: Rows
    parts: Parts


def count_epochs(parts: list[dict[str, Any]], environment: Mapping[str, Any], epochs: int = 1) -> None:
    """Add epochs to the last part if it was trained in the same environment, or begin a part."""
    if not parts or any(parts[-1].get(name) != value for name, value in environment.items()):
        parts.append({**environment, "epochs": 0})
    parts[-1]["epochs"] += epochs


def list_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints of a run, oldest first."""
    return sorted(folder.glob("epoch-*.ckpt"))


def read(path: Path, run_id: str) -> Saved:
    """The checkpoint, whole and of this run and epoch.

    torch reads a file with a flipped bit without complaint, but writes the checksum of each entry. Checkpoints of
    older code hold no ``parts``: their environment is unknown.

    Raises:
        Exception: it is cut short, altered, more than tensors and plain values, or not what its place says.
    """
    with zipfile.ZipFile(path) as file:
        if damaged := file.testzip():
            raise ValueError(f"{damaged} is damaged")
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    run = checkpoint.get("run", {"id": None})
    if run["id"] != run_id:
        raise ValueError(f"it is of another run, {run['id']}")
    if path.name != f"epoch-{checkpoint['epoch']:04d}.ckpt":
        raise ValueError(f"it is of epoch {checkpoint['epoch']}")
    return Saved(path, run["metrics"], run.get("parts") or [{"epochs": len(run["metrics"])}])


def newest_valid(folder: Path, run_id: str) -> Saved | None:
    """The newest checkpoint that can be read, or None if there is none at all.

    Leftovers of interrupted writes are removed. Checkpoints that cannot be read are passed over with a warning and,
    once an older one is found, renamed to ``.refused``: the last ``.ckpt`` is always the run's newest state.

    Raises:
        RuntimeError: checkpoints exist and none can be read.
    """
    for leftover in folder.glob("*.tmp"):
        leftover.unlink()
    refused: list[Path] = []
    for path in reversed(list_checkpoints(folder)):
        try:
            saved = read(path, run_id)
        except Exception as error:
            reason = str(error).split(". ")[0]
            warnings.warn(f"{path} cannot be read ({reason}); trying the one before", stacklevel=2)
            refused.append(path)
        else:
            for other in refused:
                other.rename(other.with_suffix(".refused"))
            return saved
    if refused:
        raise RuntimeError(f"no checkpoint in {folder} can be read; remove the folder to start over")
    return None
