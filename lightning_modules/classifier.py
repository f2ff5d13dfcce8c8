"""The LightningModule: a registered network, cross entropy, top-1 and top-5 error."""

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning.plugins import MixedPrecision
from torch import Tensor, distributed
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy

from lightning_modules.fixed_shape import CAPTURED, FixedShape
from lightning_modules.networks import create_network, network_definition, network_purpose
from lightning_modules.networks.options import plain
from lightning_modules.networks.torchvision_weights import HEAD
from lightning_modules.recipes import begin_momenta, create_optimizer, create_schedule, resolve_recipe

STEPS_UNSEEN = 50
"""Reading every loss would stall a GPU: there one in this many is read, and the mean at the end of an epoch."""

LOGGED: dict[str, Any] = {"prog_bar": True, "sync_dist": True, "reduce_fx": "max"}
"""Metrics are the same in all processes; Lightning warns where it is not asked to bring them together."""


class DivergedError(RuntimeError):
    """The loss is no longer finite."""


class MeanLoss(Metric):
    """The mean over samples. torchmetrics' own would leave out losses that are NaN and go on with the rest.

    Summed in float32 at least, also where the Trainer makes everything bf16 or half.
    """

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0), "sum")
        self.add_state("count", torch.tensor(0.0), "sum")

    def update(self, loss: Tensor, count: int) -> None:
        """``loss`` () is the mean of ``count`` samples."""
        self.total = _wide(self.total) + _wide(loss) * count
        self.count = _wide(self.count) + count

    def compute(self) -> Tensor:
        return self.total / self.count


class LitClassifier(pl.LightningModule):
    """Train a registered network to classify images.

    Logs each epoch, in percent where it is an error: ``train_loss``, ``train_error``, ``val_loss``, ``val_error``,
    ``test_loss``, ``test_error`` and ``test_top5_error`` (with more than 5 classes).

    A loss that is not finite ends training with ``DivergedError``: on a CPU before the weights are updated with it,
    elsewhere within ``STEPS_UNSEEN`` steps. So does an epoch's mean loss, and that of the test.

    Processes that share the training (DDP) may have parts of a batch that differ in size: the gradient and what is
    logged are of the whole batch and of the whole data.

    Hyperparameters are plain values, so ``LitClassifier.load_from_checkpoint(path)`` needs the path alone.

    Args:
        network: a name of ``list_networks()``.
        num_classes: outputs; by default the network's own, 1000 for ``imagenet_*`` and 10 for the others.
        network_options: overrides for ``create_network``, e.g. ``{"reading": "fixed_point"}``.
        recipe: fields of ``recipes.DEFAULTS`` that differ from it, e.g. ``{"epochs": 30}``. Without ``epochs`` the
            schedule spans the Trainer's ``max_epochs``, if it has any; "one_cycle" always ends with the Trainer.
        channels_last: keep weights and images in NHWC memory; faster on CPUs with bf16 and on GPUs.
        compile: run full training batches through ``torch.compile``; pays on GPUs, not on CPUs with bf16. A text is
            its mode, or "graphs", which replays the network's own kernels and compiles nothing, or
            "compiled-graphs", which replays compiled code (``cuda_graphs.capture`` says what cannot be replayed).

    Raises:
        ValueError: unknown network (closest names given), option, recipe field or schedule; CUDA graphs of a
            memory_efficient network with dropout; or a checkpoint that is loaded is of another network of this name
            (``network_definition``). Later, the data have more classes than the network.
    """

    def __init__(
        self,
        network: str,
        num_classes: int | None = None,
        network_options: Mapping[str, Any] | None = None,
        recipe: Mapping[str, Any] | None = None,
        channels_last: bool = True,
        compile: bool | str = False,
    ) -> None:
        super().__init__()
        network_options, recipe = plain(network_options or {}), plain(recipe or {})
        num_classes = network_purpose(network).num_classes if num_classes is None else plain(num_classes)
        if "num_classes" in network_options:
            raise ValueError("num_classes is an argument of its own, not one of network_options")
        self.save_hyperparameters()  # to build it again; a subclass's arguments of these names take their places
        self._network_name, self._num_classes, self._channels_last = network, num_classes, channels_last
        self._definition = network_definition(network, network_options)
        self.recipe, self._gives_epochs = resolve_recipe(recipe), "epochs" in recipe
        self.network = create_network(network, num_classes, **network_options)
        if channels_last:
            self.network.to(memory_format=torch.channels_last)
        self.run_network = FixedShape(self.network, compile)
        self.train_metrics = torch.nn.ModuleDict({"loss": MeanLoss(), "accuracy": _accuracy(num_classes)})
        self.val_metrics = torch.nn.ModuleDict({"loss": MeanLoss(), "accuracy": _accuracy(num_classes)})
        self.test_metrics = torch.nn.ModuleDict({"loss": MeanLoss(), "accuracy": _accuracy(num_classes)})
        if num_classes > 5:
            self.test_metrics["top5_accuracy"] = _accuracy(num_classes, top_k=5)

    def setup(self, stage: str) -> None:
        """Raises:
        ValueError: the datamodule has more classes than the network.
        """
        classes = getattr(self.trainer.datamodule, "num_classes", None) or 0
        if classes > self._num_classes:
            raise ValueError(
                f"the data have {classes} classes, the network {self._num_classes}; give num_classes={classes}"
            )

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> logits (B, num_classes)."""
        if self._channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        if self.run_network.network is not self.network:  # the attribute was given another one
            self.run_network = FixedShape(self.network, self.run_network.way)
        return self.run_network(images)

    def on_train_epoch_start(self) -> None:
        """Each, as a callback may accumulate gradients from one epoch on."""
        _reset(self.train_metrics)
        compile, trainer = self.run_network.way, self.trainer
        if compile in CAPTURED and (trainer.accumulate_grad_batches != 1 or trainer.world_size != 1):
            raise ValueError(
                f'compile="{compile}" is for one device, and cannot accumulate gradients over batches; take '
                "another way to compile"
            )

    def on_validation_epoch_start(self) -> None:
        _reset(self.val_metrics)

    def on_test_epoch_start(self) -> None:
        _reset(self.test_metrics)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        loss = self._step(batch, self.train_metrics)
        share, mean = share_of_batch(loss, len(batch[1]))
        if loss.device.type == "cpu" or batch_idx % STEPS_UNSEEN == 0:
            self._check_finite(mean, f"epoch {self.current_epoch}, batch {batch_idx}")
        return share

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._step(batch, self.val_metrics)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._step(batch, self.test_metrics)

    def predict_step(self, batch: tuple[Tensor, Tensor] | Tensor, batch_idx: int) -> Tensor:
        """Images, with labels or without -> logits (B, num_classes)."""
        return self(batch if isinstance(batch, Tensor) else batch[0])

    def on_train_epoch_end(self) -> None:
        loss = self._log_metrics("train", self.train_metrics)
        self._check_finite(loss, f"epoch {self.current_epoch}")

    def on_validation_epoch_end(self) -> None:
        self._log_metrics("val", self.val_metrics)

    def on_test_epoch_end(self) -> None:
        loss = self._log_metrics("test", self.test_metrics)
        self._check_finite(loss, "the test")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["network_definition"] = self._definition

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        written, ours = checkpoint.get("network_definition", 1), self._definition
        if written != ours:
            raise ValueError(
                f"the checkpoint is of definition {written} of {self._network_name}, the code has {ours}: a "
                "default changed; give the options that it was trained with as network_options"
            )

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """With ``strict=False`` a head for another number of classes is left out, and this network's own stays.

        Not in a Trainer, whose optimizer would go on with the other head's momentum.
        """
        if not strict and self._trainer is None:
            own = self.state_dict()
            state_dict = {
                name: value
                for name, value in state_dict.items()
                if not (name.startswith(f"network.{HEAD}") and name in own and value.shape != own[name].shape)
            }
        return super().load_state_dict(state_dict, strict, assign)

    def configure_optimizers(self) -> dict[str, Any]:
        cannot_clip_fused = isinstance(self.trainer.precision_plugin, MixedPrecision)
        fused = not (self.trainer.gradient_clip_val and cannot_clip_fused)
        optimizer = create_optimizer(self, self.recipe, fused)
        recipe, epochs = self.recipe, self.trainer.max_epochs
        if not self._gives_epochs and epochs and epochs > 0:
            recipe = {**recipe, "epochs": epochs}
        schedule = create_schedule(optimizer, recipe, self.trainer.estimated_stepping_batches)
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        begin_momenta(optimizer)

    @property
    def learning_rate(self) -> float:
        """The recipe's, under the name that Lightning's ``Tuner.lr_find`` looks for."""
        return self.recipe["learning_rate"]

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self.recipe = resolve_recipe({**self.recipe, "learning_rate": value})
        if "recipe" in self.hparams:
            self.hparams["recipe"] = {**(self.hparams["recipe"] or {}), "learning_rate": value}

    def _step(self, batch: tuple[Tensor, Tensor], metrics: torch.nn.ModuleDict) -> Tensor:
        """Labels are classes (B,), or probabilities (B, num_classes), of which errors take the likeliest."""
        images, labels = batch
        logits = self(images).float()
        loss = F.cross_entropy(logits, labels)
        if not len(labels):  # a process's part of an evaluation's last batch
            return loss
        for name, metric in metrics.items():
            if name == "loss":
                metric.update(loss.detach(), len(labels))
            else:
                metric.update(logits.detach(), labels.argmax(1) if labels.ndim > 1 else labels)
        return loss

    @staticmethod
    def _check_finite(loss: Tensor, where: str) -> None:
        if not torch.isfinite(loss):
            raise DivergedError(f"loss is {loss.item()} in {where}")

    def _log_metrics(self, stage: str, metrics: torch.nn.ModuleDict) -> Tensor:
        """Log and reset them; returns the loss."""
        values = {name: metric.compute() for name, metric in metrics.items()}
        for name, value in values.items():
            if name == "loss":
                self.log(f"{stage}_loss", value, **LOGGED)
            else:
                self.log(f"{stage}_{name.replace('accuracy', 'error')}", 100 * (1 - value), **LOGGED)
        _reset(metrics)
        return values["loss"]


def _reset(metrics: torch.nn.ModuleDict) -> None:
    """Before they are used: an epoch that was broken off leaves sums of its own."""
    for metric in metrics.values():
        metric.reset()


def _wide(value: Tensor) -> Tensor:
    return value.to(torch.promote_types(value.dtype, torch.float32))


def share_of_batch(loss: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """What a process contributes to the gradient, and the mean loss of the whole batch, the same in all processes.

    DDP averages gradients over processes; weighted by its share of the images times their number, each process's
    loss () over its own ``count`` images makes that the gradient of the mean over the batch.
    """
    world_size = distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1
    if world_size == 1:
        return loss, loss
    sums = torch.stack([loss.detach() * count, torch.full_like(loss, count, requires_grad=False)])
    distributed.all_reduce(sums)
    total, images = sums
    return loss * (world_size * count / images), total / images


def _accuracy(num_classes: int, top_k: int = 1) -> MulticlassAccuracy:
    return MulticlassAccuracy(num_classes, top_k=top_k, average="micro", validate_args=False)
