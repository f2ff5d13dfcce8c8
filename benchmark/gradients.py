"""How large the gradient of each layer is when training starts and when it ends."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn


class GradientNorms(pl.Callback):
    """Euclidean norms of the gradients of convolutions' and linear maps' weights, at the first and the last step.

    ``norms`` maps a layer's name, in the network's order, to ``{"start": ..., "end": ...}``. It travels in
    checkpoints, so a run that is continued knows its first step. Other steps are not touched.
    """

    def __init__(self) -> None:
        self.norms: dict[str, dict[str, float]] = {}

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        last = int(trainer.estimated_stepping_batches) - 1
        for when, step in (("start", 0), ("end", last)):
            if trainer.global_step == step:
                for name, norm in gradient_norms(pl_module.network).items():
                    self.norms.setdefault(name, {})[when] = norm

    def state_dict(self) -> dict[str, Any]:
        return {"norms": self.norms}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.norms = state["norms"]


def gradient_norms(network: nn.Module) -> dict[str, float]:
    """By layer the Euclidean norm of its weight's gradient; weights are parameters of two or more dimensions."""
    return {
        name.removesuffix(".weight"): parameter.grad.float().norm().item()
        for name, parameter in network.named_parameters()
        if parameter.ndim > 1 and parameter.grad is not None
    }
