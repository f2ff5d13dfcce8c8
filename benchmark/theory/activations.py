"""Monotone activations Phi and their antiderivatives Psi, Psi' = Phi (docs/theory.md, section 1).

All work elementwise on float64 tensors of any shape. Each is checked against autograd and against numerical
integration by ``tests/theory/test_activations.py``.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmark.errors import UserError, closest

Function = Callable[[Tensor], Tensor]

LEAK = 0.1
DILOGARITHM_NODES = 40


@dataclass(frozen=True)
class Activation:
    """Phi, its antiderivative Psi, and the bounds 0 <= min_slope <= Phi' <= max_slope."""

    phi: Function
    psi: Function
    max_slope: float
    min_slope: float = 0.0


def get_activation(name: str) -> Activation:
    """The activation of this name.

    Raises:
        UserError: unknown, or known not to be monotone.
    """
    if name in NOT_MONOTONE:
        raise UserError(
            f"{name} is not monotone, so no convex objective descends by it; valid: {', '.join(ACTIVATIONS)}"
        )
    if name not in ACTIVATIONS:
        raise UserError(f"unknown activation {name!r}; {closest(name, ACTIVATIONS)}")
    return ACTIVATIONS[name]


def check_monotone(phi: Function) -> None:
    """Check an activation of one's own on a grid from -20 to 20.

    Raises:
        UserError: it decreases somewhere, or is not finite there; says where.
    """
    x = torch.linspace(-20, 20, 4001, dtype=torch.float64)
    y = phi(x)
    if not torch.isfinite(y).all():
        raise UserError(f"the activation is not finite at {x[~torch.isfinite(y)][0]:g}")
    falls = y.diff() < -1e-12
    if falls.any():
        raise UserError(f"the activation is not monotone: it decreases at {x[:-1][falls][0]:g}")


def log_cosh(x: Tensor) -> Tensor:
    """log cosh x without overflow."""
    return torch.logaddexp(x, -x) - math.log(2)


def softplus_integral(x: Tensor) -> Tensor:
    """-Li2(-e^x), the antiderivative of softplus.

    For x <= 0 it is the integral of log(1 + e^x s) / s over 0 < s < 1, by Gauss and Legendre to machine precision;
    for x > 0 the dilogarithm's inversion, Li2(-e^x) + Li2(-e^-x) = -pi^2 / 6 - x^2 / 2.
    """
    nodes, weights = _gauss_legendre()
    below = (weights * torch.log1p(torch.exp(-x.abs())[..., None] * nodes) / nodes).sum(-1)
    return torch.where(x > 0, math.pi**2 / 6 + x**2 / 2 - below, below)


def relu_integral(x: Tensor) -> Tensor:
    """x^2 / 2 for x > 0, else 0."""
    return x.clamp_min(0) ** 2 / 2


def elu_integral(x: Tensor) -> Tensor:
    """x^2 / 2 for x > 0, else e^x - x - 1; continuous at 0."""
    below = x.clamp_max(0)
    return relu_integral(x) + torch.exp(below) - below - 1


def hardtanh_integral(x: Tensor) -> Tensor:
    """x^2 / 2 for |x| <= 1, else |x| - 1/2."""
    return x.clamp(-1, 1) ** 2 / 2 + (x.abs() - 1).clamp_min(0)


def hardsigmoid_integral(x: Tensor) -> Tensor:
    """Of clip((x + 3) / 6, 0, 1)."""
    return (x.clamp(-3, 3) + 3) ** 2 / 12 + (x - 3).clamp_min(0)


def normal_density(x: Tensor) -> Tensor:
    """Of the standard normal distribution."""
    return torch.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)


@lru_cache
def _gauss_legendre() -> tuple[Tensor, Tensor]:
    """Nodes and weights on (0, 1)."""
    nodes, weights = np.polynomial.legendre.leggauss(DILOGARITHM_NODES)
    return torch.tensor((nodes + 1) / 2), torch.tensor(weights / 2)


NOT_MONOTONE = ("gelu", "silu", "swish", "mish", "hardswish", "sin")

ACTIVATIONS: dict[str, Activation] = {
    "sigmoid": Activation(torch.sigmoid, F.softplus, 1 / 4),
    "tanh": Activation(torch.tanh, log_cosh, 1.0),
    "softplus": Activation(F.softplus, softplus_integral, 1.0),
    "softsign": Activation(F.softsign, lambda x: x.abs() - torch.log1p(x.abs()), 1.0),
    "relu": Activation(torch.relu, relu_integral, 1.0),
    "leaky_relu": Activation(
        lambda x: F.leaky_relu(x, LEAK),
        lambda x: relu_integral(x) + LEAK * relu_integral(-x),
        1.0,
        LEAK,
    ),
    "elu": Activation(F.elu, elu_integral, 1.0),
    "hardtanh": Activation(F.hardtanh, hardtanh_integral, 1.0),
    "hardsigmoid": Activation(F.hardsigmoid, hardsigmoid_integral, 1 / 6),
    "erf": Activation(
        torch.erf,
        lambda x: x * torch.erf(x) + torch.exp(-(x**2)) / math.sqrt(math.pi),
        2 / math.sqrt(math.pi),
    ),
    "arctan": Activation(torch.arctan, lambda x: x * torch.arctan(x) - torch.log1p(x**2) / 2, 1.0),
    "algebraic": Activation(lambda x: x / torch.sqrt(1 + x**2), lambda x: torch.sqrt(1 + x**2), 1.0),
    "normal_cdf": Activation(
        torch.special.ndtr,
        lambda x: x * torch.special.ndtr(x) + normal_density(x),
        1 / math.sqrt(2 * math.pi),
    ),
    "softshrink": Activation(
        lambda x: F.softshrink(x, 0.5), lambda x: relu_integral(x - 0.5) + relu_integral(-x - 0.5), 1.0
    ),
    "identity": Activation(lambda x: x, lambda x: x**2 / 2, 1.0, 1.0),
}
"""Closed forms; what is not smooth (relu, hardtanh, ...) has the slope of either side at its kinks."""
