"""One run: a datamodule, a network in its LightningModule and a Trainer, wired together; one record left behind."""

import contextlib
import math
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import pytorch_lightning as pl
import torch

from benchmark import machine, reference
from benchmark.allocation import keeping_freed_memory
from benchmark.checkpoints import EpochRecorder, Saved, count_epochs, list_checkpoints, newest_valid
from benchmark.complexity import complexity
from benchmark.data import create_datamodule
from benchmark.energy import EnergyMeter
from benchmark.errors import UserError
from benchmark.gradients import GradientNorms
from benchmark.group import Group, describe
from benchmark.ledger import FINISHED, RunFolder, WriteError, write_atomically
from benchmark.specs import Cell, NetworkSpec, RecipeSpec, to_dict
from benchmark.trainer import create_trainer, quiet
from datamodules.array import ArrayDataModule
from datamodules.interface import ImageDataModule
from datamodules.sampling import epoch_seed
from lightning_modules.classifier import DivergedError, LitClassifier
from lightning_modules.fixed_shape import CAPTURED, COMPILED_GRAPHS, GRAPHS
from lightning_modules.networks.registry import no_weight_decay
from lightning_modules.recipes import DEFAULTS

OnEpoch = Callable[[Mapping[str, float]], None]
Train = Callable[[RunFolder, Path, str, OnEpoch], dict[str, Any]]
"""Trains and tests a run and returns what its record says, as ``train_and_test`` does."""
Rows = list[Mapping[str, float]]
Traces = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""What training did to the network: ``coefficients``, a method's learned ones by parameter name, and
``gradient_norms`` by layer; each at the ``start`` and at the ``end``."""


RANK_STRIDE = 1_000_000_007
"""Between the seeds of two processes: far from those of other epochs."""


COMPILE = {"auto": "auto", "off": False, "default": True, **{way: way for way in CAPTURED}}
"""How ``--compile`` is written: ``torch.compile``, CUDA graphs, or both."""


class InterruptedRun(Exception):  # noqa: N818
    """The run was told to stop (Ctrl-C, SIGTERM); the same command continues it."""


def resolve_recipe(recipe: RecipeSpec, device: str, network: NetworkSpec) -> RecipeSpec:
    """The recipe with its "auto" values chosen for device and network: bf16 where it is fast, and how to run it.

    Raises:
        UserError: a precision that is unknown or that the device lacks, CUDA graphs without a GPU, or compiled code
            without what compiling needs.
    """
    compile = _choose_compile(recipe, device, network) if recipe.compile == "auto" else recipe.compile
    if compile in CAPTURED and device != "cuda":
        raise UserError(f"--compile {compile} needs a GPU; take off or auto")
    if compile in (True, COMPILED_GRAPHS) and not machine.can_compile(device):
        asked, instead = ("default", "off") if compile is True else (compile, GRAPHS)
        raise UserError(f"--compile {asked} needs {machine.NEEDED_TO_COMPILE[device]}; take {instead}")
    return replace(recipe, precision=machine.choose_precision(recipe.precision, device), compile=compile)


def _choose_compile(recipe: RecipeSpec, device: str, network: NetworkSpec) -> bool | str:
    """CUDA graphs for small images on one GPU, which waits for the host; else compilation where that can be.

    A bare step of ResNet-56 on an H200 takes 5.1 ms by graphs and 14.9 ms compiled. Graphs of compiled code, 4.1
    ms, are opt-in: they take most of a minute to prepare. Compilation on a CPU is too: it gains networks without
    momentum next to nothing.
    """
    is_small = device == "cuda" and recipe.devices == 1 and not recipe.image_size
    if is_small and not network.draws_masks_twice:
        return GRAPHS
    return device == "cuda" and machine.can_compile(device)


class EpochClock(pl.Callback):
    """Seeds torch's global generator (dropout) by seed, epoch and rank, and measures training and the whole epoch.

    ``learning_rate`` is that of the epoch's first step. Seeding each epoch makes a resumed run equal an
    uninterrupted one.
    """

    def __init__(self, seed: int, device: str) -> None:
        self.seed = seed
        self.energy = EnergyMeter(device)
        self.started = self.trained = self.learning_rate = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        seed = epoch_seed(self.seed, trainer.current_epoch + 1)
        torch.manual_seed(seed + RANK_STRIDE * trainer.global_rank)
        self.learning_rate = trainer.optimizers[0].param_groups[0]["lr"]
        self.energy.start()
        self.started = time.perf_counter()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.energy.look()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize()
        self.trained = time.perf_counter()

    def on_validation_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.energy.look()


def execute(
    folder: RunFolder, data_dir: Path, device: str, on_epoch: OnEpoch, train: Train | None = None
) -> dict[str, Any]:
    """Train and test one run, or continue it from its last epoch, and write its record.

    Args:
        folder: the run; its cell must be resolved (``resolve_recipe``, ``data.identify``).
        data_dir: where its data lies.
        device: "cpu" or "cuda".
        on_epoch: called with each new row of metrics.
        train: how; by default ``train_and_test``, in this process alone.

    Returns:
        The record. An error of the run itself is a record of status "failed" or "diverged".

    Raises:
        UserError: the data cannot be used, or not even a failure can be recorded.
        InterruptedRun: a signal came; the record says "interrupted".
    """
    machine.free_memory(device)
    context = {
        **machine.environment(device),
        "threads": torch.get_num_threads(),
        "precision": folder.cell.recipe.precision,
    }
    try:
        folder.reopen()
        folder.write_spec()
        values = (train or train_and_test)(folder, data_dir, device, on_epoch)
        return folder.write_result("done", {**context, **values})
    except WriteError as error:
        return folder.write_result("failed", {**context, "reason": str(error)})
    except UserError:
        raise
    except DivergedError as error:
        return folder.write_result("diverged", {**context, "reason": str(error)})
    except (KeyboardInterrupt, SystemExit) as error:
        if folder.status() not in FINISHED:  # it may have come while the last record was written
            folder.write_result("interrupted", {**context, "reason": "stopped by a signal"})
        raise InterruptedRun from error
    except Exception as error:
        with contextlib.suppress(WriteError):
            write_atomically(folder.path / "error.txt", traceback.format_exc())
        return folder.write_result("failed", {**context, "reason": describe(error)})


def train_and_test(
    folder: RunFolder, data_dir: Path, device: str, on_epoch: OnEpoch, group: Group | None = None
) -> dict[str, Any]:
    """What a record says of a run that is done; writes metrics and checkpoints on the way.

    Every process of a ``group`` calls it; the leader alone writes, calls ``on_epoch`` and has something to return.

    Raises:
        DivergedError, AgreedError: in every process of the group.
        Exception: whatever goes wrong, in this process alone.
    """
    group = group or Group()
    cell, recipe = folder.cell, folder.cell.recipe
    datamodule = create_datamodule(cell.data, data_dir, recipe, folder.seed)
    if recipe.loop == "reference":
        tested, rows, memory, traces = _train_by_reference(folder, datamodule, device, on_epoch)
    else:
        tested, rows, memory, traces = _train_by_lightning(folder, datamodule, device, on_epoch, group)
    if not group.leads:
        return {}
    parameters, multiply_adds = complexity(cell.network, datamodule.num_classes, datamodule.image_shape)
    images = datamodule.num_train
    if recipe.limit_batches:
        images = min(images, recipe.limit_batches * recipe.batch_size)
    return {
        "device": machine.describe_device(device, group.devices, group.nodes),
        "threads": torch.get_num_threads(),
        "test_error": tested["test_error"],
        "test_top5_error": tested.get("test_top5_error"),
        "test_loss": tested["test_loss"],
        "best_eval_error": min(row["eval_error"] for row in rows),
        "parameters": parameters,
        "multiply_adds": multiply_adds,
        "epochs": len(rows),
        "seconds": sum(row["seconds"] for row in rows),
        "seconds_per_epoch": median(row["seconds"] for row in rows),
        "images_per_second": images / median(row["train_seconds"] for row in rows),
        "peak_memory_bytes": memory,
        "joules": _total(rows, "joules"),
        **traces,
        "test_images": datamodule.num_test,
        "data": datamodule.identity,
    }


def _train_by_lightning(
    folder: RunFolder, datamodule: ImageDataModule, device: str, on_epoch: OnEpoch, group: Group
) -> tuple[Mapping[str, float], Rows, int | None, Traces]:
    """What ``trainer.test`` found, the rows of metrics, the peak memory (bytes) of training, and traces.

    The memory is that of the process that took most.
    """
    cell, recipe = folder.cell, folder.cell.recipe
    model = create_model(cell, folder.seed, datamodule.num_classes, datamodule.image_shape[0])
    start = learned_coefficients(model.network)
    clock, gradients = EpochClock(folder.seed, device), GradientNorms()
    environment = machine.environment(device, group.devices, group.nodes)
    rows: Rows = []

    def record(epoch: int, metrics: Mapping[str, float]) -> None:
        joules = _joules(clock.energy, device, group)
        count_epochs(folder.parts, environment)
        rows.append(
            {
                "epoch": epoch,
                "train_loss": metrics["train_loss"],
                "train_error": metrics["train_error"],
                "eval_loss": metrics["val_loss"],
                "eval_error": metrics["val_error"],
                "learning_rate": clock.learning_rate,
                "seconds": time.perf_counter() - clock.started,
                "train_seconds": clock.trained - clock.started,
                **({} if joules is None else {"joules": joules}),
            }
        )
        if group.leads:
            folder.write_metrics(rows)
            on_epoch(rows[-1])

    saved = group.decide(lambda: _find_last_epoch(folder))
    if saved is not None:
        if not saved.path.exists():
            raise FileNotFoundError(f"{saved.path}: results must lie where all nodes see them")
        rows += saved.rows
        folder.parts = [dict(part) for part in saved.parts]
    count_epochs(folder.parts, environment, 0)
    recorder = EpochRecorder(folder.checkpoints, folder.id, rows, folder.parts, record)
    trainer = create_trainer(recipe, device, folder.path, [clock, gradients, recorder], group)
    machine.reset_peak_memory(device)
    with quiet(), keeping_freed_memory():
        trainer.fit(model, datamodule=datamodule, ckpt_path=saved and saved.path)
        has_trained = saved is None or len(rows) > len(saved.rows)
        memories = group.gather(machine.peak_memory(device) if has_trained else None)
        memory = max(filter(None, memories), default=None)
        (tested,) = trainer.test(model, datamodule=datamodule, verbose=False)
    if group.leads:
        for path in list_checkpoints(folder.checkpoints)[:-1]:
            path.unlink()
    end = learned_coefficients(model.network)
    coefficients = {name: {"start": start[name], "end": end[name]} for name in end}
    return tested, rows, memory, {"coefficients": coefficients, "gradient_norms": gradients.norms}


def _joules(meter: EnergyMeter, device: str, group: Group) -> float | None:
    """The energy of all devices; the processes of a node that share its CPU share one counter."""
    counts = device == "cuda" or group.local_rank == 0
    joules = group.gather(meter.joules if counts else 0.0)
    return None if None in joules else sum(joules)


def _find_last_epoch(folder: RunFolder) -> Saved | None:
    """The checkpoint to continue from, with its metrics, which are also written anew; None to start.

    Raises:
        RuntimeError: see ``newest_valid``; or there are metrics of several epochs, or damaged ones, and no
            checkpoint.
    """
    saved = newest_valid(folder.checkpoints, folder.id)
    if saved is None:
        try:
            epochs = len(folder.read_metrics())
        except UserError as error:
            raise RuntimeError(f"{error}; there is no checkpoint; remove {folder.path} to start over") from error
        if epochs > 1:
            raise RuntimeError(
                f"metrics.csv has {epochs} epochs and there is no checkpoint; remove {folder.path} to start over"
            )
        return None
    folder.write_metrics(saved.rows)
    return saved


def _train_by_reference(
    folder: RunFolder, datamodule: ArrayDataModule, device: str, on_epoch: OnEpoch
) -> tuple[Mapping[str, float], Rows, int | None, Traces]:
    """As ``_train_by_lightning``, by the usual loop; without checkpoints, so a run that was cut off starts anew."""
    rows: Rows = []

    def record(row: Mapping[str, float]) -> None:
        rows.append(row)
        folder.write_metrics(rows)
        on_epoch(row)

    cell = folder.cell
    network = create_model(cell, folder.seed, datamodule.num_classes, datamodule.image_shape[0]).network.to(device)
    machine.reset_peak_memory(device)
    tested = reference.train_and_test(network, datamodule, cell.recipe, record)
    return tested, rows, machine.peak_memory(device), {}


def create_model(cell: Cell, seed: int, num_classes: int, in_channels: int) -> LitClassifier:
    """The LightningModule of a cell, initialised from ``seed``."""
    torch.manual_seed(seed)
    recipe = cell.recipe
    return LitClassifier(
        network=cell.network.name,
        num_classes=num_classes,
        network_options={**cell.network.options, "in_channels": in_channels},
        recipe={name: value for name, value in to_dict(recipe).items() if name in DEFAULTS},
        channels_last=recipe.channels_last,
        compile=recipe.compile,
    )


def learned_coefficients(network: torch.nn.Module) -> dict[str, list[float]]:
    """Values of the parameters that are a method's coefficients, in the network's order."""
    names = no_weight_decay(network)
    return {name: value.tolist() for name, value in network.named_parameters() if name in names}


def _total(rows: Rows, name: str) -> float | None:
    """None if an epoch lacks it, as after a move to a device that does not tell."""
    total = sum(row.get(name, math.nan) for row in rows)
    return total if math.isfinite(total) else None
