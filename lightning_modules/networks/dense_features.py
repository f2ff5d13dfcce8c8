"""Concatenations and weighted sums of a dense block's features, with gradients in few passes over memory.

Shapes: B images, c_j channels of the features x_j, H x W pixels; tensors are (B, c_j, H, W).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_modules.networks.shared_statistics import is_transformed
from lightning_modules.networks.updates import unpack


def concatenate(parts: Sequence[Tensor]) -> Tensor:
    """(B, c_j, H, W) each -> (B, sum of c_j, H, W)."""
    first, *others = parts
    if not others:
        return first
    return torch.cat(list(parts) if is_transformed(first) else [first, *map(CopiedGradient.apply, others)], 1)


class CopiedGradient(torch.autograd.Function):
    """x as a part of a concatenation, with a gradient that on a CPU is a copy.

    Otherwise it is a slice, a few channels of each pixel, to which a CPU adds other gradients several times slower
    than it copies it.
    """

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: torch.autograd.function.FunctionCtx, inputs: tuple[Tensor], output: Tensor) -> None:
        """Nothing is kept."""

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> Tensor:
        return gradient.clone() if gradient.device.type == "cpu" else gradient


def weighted_sum(new: Tensor, factors: Tensor, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """new + sum_j c_j x_j, of scalars c (n,) and x_1, ..., x_n of one shape, and x_1, ..., x_n themselves.

    Whoever reads an x_j later takes it from here, so that its gradient is added up in few passes (``WeightedSum``).
    """
    if is_transformed(new):  # a compiler needs no help, and under vmap a batch of sums may share an x_j
        return add_terms(new, factors, features), *features
    return WeightedSum.apply(new, factors, *features)


def add_terms(new: Tensor, factors: Tensor, features: Sequence[Tensor]) -> Tensor:
    """new + sum_j c_j x_j in one pass over memory for each term; a product and a sum on their own are two."""
    for factor, x in zip(unpack(factors.to(new.dtype), len(features)), features, strict=True):
        new = torch.addcmul(new, factor, x)
    return new


class WeightedSum(torch.autograd.Function):
    """``weighted_sum``: its gradient towards an x_j is added in one pass to what comes back from later readers.

    What nobody reads sends back None: zeros would take a pass, and not have the memory layout of the features.
    """

    @staticmethod
    def forward(new: Tensor, factors: Tensor, *features: Tensor) -> tuple[Tensor, ...]:
        return add_terms(new, factors, features), *(x.view_as(x) for x in features)

    @staticmethod
    def setup_context(ctx: torch.autograd.function.FunctionCtx, inputs: tuple[Tensor, ...], output: tuple) -> None:
        ctx.save_for_backward(*inputs[1:])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor | None, *later: Tensor | None) -> tuple:
        if gradient is None:
            return None, None, *later
        factors, *features = ctx.saved_tensors
        of_factors = torch.stack([(gradient * x).sum() for x in features])
        of_features = (
            gradient * factor if g is None else torch.addcmul(g, factor, gradient)
            for g, factor in zip(later, factors.to(gradient.dtype), strict=True)
        )
        return gradient, of_factors.to(factors.dtype), *of_features
