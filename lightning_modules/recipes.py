"""Optimizer and schedule from a recipe, a mapping with the fields of ``DEFAULTS``."""

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

import torch
from torch import nn

from lightning_modules.networks.registry import no_weight_decay

DEFAULTS: dict[str, Any] = {
    "epochs": 300,
    "learning_rate": 0.1,
    "momentum": 0.9,
    "nesterov": True,
    "weight_decay": 1e-4,
    "schedule": "step",
    "milestones": (0.5, 0.75),
}
SCHEDULES = ("step", "one_cycle")
LOWEST = {"epochs": 1, "learning_rate": 0, "momentum": 0, "weight_decay": 0}


def resolve_recipe(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """``DEFAULTS`` with ``recipe`` laid over them.

    Raises:
        ValueError: unknown field or schedule, or a value of another kind or out of range.
    """
    if unknown := sorted(set(recipe) - set(DEFAULTS)):
        raise ValueError(f"unknown recipe fields {', '.join(unknown)}; valid: {', '.join(DEFAULTS)}")
    resolved = {**DEFAULTS, **recipe}
    if resolved["schedule"] not in SCHEDULES:
        raise ValueError(f"unknown schedule {resolved['schedule']!r}; valid: {', '.join(SCHEDULES)}")
    for name, lowest in LOWEST.items():
        if not (isinstance(value := resolved[name], Real) and lowest <= value < math.inf):
            raise ValueError(f"{name} is {value!r}; it must be a finite number from {lowest} on")
    if not isinstance(resolved["nesterov"], bool):
        raise ValueError(f"nesterov must be True or False, got {resolved['nesterov']!r}")
    if not _are_fractions(milestones := resolved["milestones"]):
        raise ValueError(f"milestones are {milestones!r}; they must be fractions of the epochs, e.g. (0.5, 0.75)")
    return resolved


def _are_fractions(values: Any) -> bool:
    return isinstance(values, list | tuple) and all(isinstance(v, Real) and 0 <= v <= 1 for v in values)


def create_optimizer(module: nn.Module, recipe: Mapping[str, Any], fused: bool = True) -> torch.optim.SGD:
    """SGD with Nesterov momentum for all parameters of ``module``; learned coefficients are not decayed.

    ``fused``: in one kernel, where the device has it. In mixed precision Lightning clips no gradients before that.
    """
    free = no_weight_decay(module)
    named = list(module.named_parameters())
    groups = [
        {"params": [p for n, p in named if n not in free], "weight_decay": recipe["weight_decay"]},
        {"params": [p for n, p in named if n in free], "weight_decay": 0.0},
    ]
    device = named[0][1].device
    return torch.optim.SGD(
        [group for group in groups if group["params"]],
        lr=recipe["learning_rate"],
        momentum=recipe["momentum"],
        nesterov=recipe["nesterov"] and recipe["momentum"] > 0,
        fused=fused and device.type in ("cuda", "cpu"),
    )


def begin_momenta(optimizer: torch.optim.Optimizer) -> None:
    """Give a parameter that joins later (a layer unfrozen in training) the momentum 0, which its first step makes.

    torch's fused SGD begins the momenta of a group all at once, and fails where some have begun.
    """
    for group in optimizer.param_groups:
        if not (group.get("fused") and group.get("momentum")):
            continue
        used = [p for p in group["params"] if p.grad is not None]
        new = [p for p in used if optimizer.state.get(p, {}).get("momentum_buffer") is None]
        for p in new if len(new) < len(used) else ():
            optimizer.state[p]["momentum_buffer"] = torch.zeros_like(p)


def create_schedule(
    optimizer: torch.optim.Optimizer, recipe: Mapping[str, Any], total_steps: float
) -> dict[str, Any]:
    """The schedule in Lightning's form: "step" moves every epoch, "one_cycle" every batch.

    Raises:
        ValueError: "one_cycle" without an end.
    """
    if recipe["schedule"] == "one_cycle":
        if math.isinf(total_steps):
            raise ValueError("one_cycle needs to know its end; give the Trainer max_epochs or max_steps")
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=recipe["learning_rate"], total_steps=int(total_steps), cycle_momentum=False
        )
        return {"scheduler": scheduler, "interval": "step"}
    boundaries = [round(fraction * recipe["epochs"]) for fraction in recipe["milestones"]]
    milestones = [epoch for epoch in boundaries if epoch > 0]
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, gamma=0.1)
    return {"scheduler": scheduler, "interval": "epoch"}
