"""Faults, each a patch of the process that it is called in."""

import contextlib
import os
import resource
import signal
import time
from pathlib import Path
from typing import Any

import torch

from benchmark import parallel, tracking
from benchmark.checkpoints import EpochRecorder
from benchmark.ledger import RunFolder
from benchmark.tracking import Tracker
from lightning_modules.classifier import LitClassifier


def kill_while_saving(epoch: int) -> None:
    """SIGKILL when half of the bytes of this epoch's checkpoint are written."""
    save = EpochRecorder.on_train_epoch_end

    def dying(self: EpochRecorder, trainer: Any, pl_module: Any) -> None:
        record = self.record

        def then_die(*arguments: Any) -> None:
            record(*arguments)
            os.fsync = _die_with_half_of_the_file

        if trainer.current_epoch == epoch:
            self.record = then_die
        save(self, trainer, pl_module)

    EpochRecorder.on_train_epoch_end = dying


def kill_while_recording(epoch: int) -> None:
    """SIGKILL when half of the bytes of this epoch's metrics are written."""
    write = RunFolder.write_metrics

    def dying(self: RunFolder, rows: Any) -> None:
        if rows[-1]["epoch"] == epoch:
            os.fsync = _die_with_half_of_the_file
        write(self, rows)

    RunFolder.write_metrics = dying


def _die_with_half_of_the_file(file: int) -> None:
    os.ftruncate(file, os.fstat(file).st_size // 2)
    os.kill(os.getpid(), signal.SIGKILL)


def kill_between_metrics_and_checkpoint(epoch: int) -> None:
    """SIGKILL after this epoch's metrics are recorded, before its checkpoint."""
    write = RunFolder.write_metrics

    def dying(self: RunFolder, rows: Any) -> None:
        write(self, rows)
        if rows[-1]["epoch"] == epoch:
            os.kill(os.getpid(), signal.SIGKILL)

    RunFolder.write_metrics = dying


def limit_files(size: int, epoch: int) -> None:
    """No file may grow beyond ``size`` bytes from the end of this epoch on, as on a full disk."""
    save = EpochRecorder.on_train_epoch_end

    def limited(self: EpochRecorder, trainer: Any, pl_module: Any) -> None:
        if trainer.current_epoch == epoch:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        save(self, trainer, pl_module)

    EpochRecorder.on_train_epoch_end = limited


def linger(epoch: int, seconds: float) -> None:
    """Each step waits so long from this epoch on, so that what is sent to the run finds it training."""
    step = LitClassifier.training_step

    def waiting(self: LitClassifier, batch: Any, batch_idx: int) -> Any:
        if self.current_epoch >= epoch:
            time.sleep(seconds)
        return step(self, batch, batch_idx)

    LitClassifier.training_step = waiting


def out_of_memory(network: str, message: str) -> None:
    """As torch reports it, wherever this network is given images: already when it is measured for the plan."""
    forward = LitClassifier.forward

    def failing(self: LitClassifier, images: Any) -> Any:
        if self.hparams.network == network:
            raise torch.OutOfMemoryError(message)
        return forward(self, images)

    LitClassifier.forward = failing


def signal_wandb(number: int, epoch: int) -> None:
    """W&B's own process gets this signal after this epoch."""
    send = Tracker.epoch

    def dying(self: Tracker) -> None:
        send(self)
        if self.logged == epoch:
            for process in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError):
                    words = (process / "cmdline").read_bytes()
                    if b"wandb-core" in words and str(os.getpid()).encode() in words:
                        os.kill(int(process.name), number)

    Tracker.epoch = dying


def hang_wandb(epoch: int) -> None:
    """W&B's own process does nothing any more after this epoch; the times to wait for it are cut short."""
    tracking.SECONDS_TO_FINISH, tracking.SECONDS_TO_FORGET = 2, 1
    signal_wandb(signal.SIGSTOP, epoch)


def exit_before_the_record() -> None:
    """Exit 0 where result.json would be written."""
    RunFolder.write_result = lambda *_: os._exit(0)


def loss_of(value: str) -> None:
    """The loss is this from the second epoch on."""
    step = LitClassifier._step

    def spoiled(self: LitClassifier, batch: Any, metrics: Any) -> Any:
        loss = step(self, batch, metrics)
        return loss * float(value) if self.training and self.current_epoch > 0 else loss

    LitClassifier._step = spoiled


def spoil_the_last_update() -> None:
    """The last update of the weights makes one of them NaN; no training loss sees it."""
    end = LitClassifier.on_train_epoch_end

    def spoiled(self: LitClassifier) -> None:
        end(self)
        if self.current_epoch == self.trainer.max_epochs - 1:
            with torch.no_grad():
                next(self.network.parameters()).view(-1)[0] = torch.nan

    LitClassifier.on_train_epoch_end = spoiled


def signal_after_the_record() -> None:
    """SIGTERM comes when the record is in its place and the call that wrote it has not returned."""
    replace = os.replace

    def interrupted(source: Any, target: Any) -> None:
        replace(source, target)
        if str(target).endswith("result.json"):
            os.kill(os.getpid(), signal.SIGTERM)

    os.replace = interrupted


def kill_process(rank: int, epoch: int) -> None:
    """SIGKILL for one of the processes that a run was started in, after this epoch."""
    attend = parallel._attend

    def killing(members: Any, on_epoch: Any) -> Any:
        def then_kill(row: Any) -> None:
            on_epoch(row)
            if row["epoch"] == epoch:
                os.kill(members[rank].process.pid, signal.SIGKILL)

        return attend(members, then_kill)

    parallel._attend = killing
