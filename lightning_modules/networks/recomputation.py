"""A tensor that follows from others which are saved anyway is recomputed for the backward pass, not saved."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, fx


class Kept(NamedTuple):
    """A tensor for the backward pass, and how often it had been changed in place when it was kept."""

    tensor: Tensor
    version: int


def keep(tensor: Tensor) -> Kept:
    """The tensor apart from its graph: a node that kept its own output would never be freed."""
    return Kept(tensor.detach(), tensor._version)


def restore(kept: Kept) -> Tensor:
    """Raises:
    RuntimeError: it was changed in place since, of which autograd knows nothing inside of hooks.
    """
    if kept.tensor._version != kept.version:
        raise RuntimeError("a tensor that the backward pass needs has been modified by an inplace operation")
    return kept.tensor


def has_hooks() -> bool:
    """Whether saved tensors go through hooks already, of which the innermost ones alone would be called."""
    return torch._C._autograd._top_saved_tensors_default_hooks(False) is not None


def recomputing(
    point: Tensor, inputs: Sequence[Tensor | None], compute: Callable[..., Tensor]
) -> AbstractContextManager:
    """Inside, what would be kept of ``point`` for a backward pass is ``compute(*inputs)`` there.

    Compilers do so by ``updates.look_ahead``; tensors without memory of their own (vmap, ``torch.fx``) are kept as
    usual, and so they are in ``torch.jit.trace``. So is everything inside of other hooks on what is kept, such as
    those of activation checkpointing, which would see nothing of a transform.

    Raises:
        RuntimeError: (in the backward pass) what was kept was changed, or a second derivative is asked for.
    """
    is_traced = torch.compiler.is_compiling() or torch.jit.is_tracing() or isinstance(point, fx.Proxy)
    if is_traced or not torch.is_grad_enabled() or has_hooks():
        return nullcontext()
    try:
        address, shape, strides = point.data_ptr(), point.shape, point.stride()
    except RuntimeError:
        return nullcontext()
    kept = [None if tensor is None else keep(tensor) for tensor in inputs]

    def pack(tensor: Tensor) -> Kept | None:  # called often, so what is quickly asked comes first
        same = tensor.data_ptr() == address and (tensor.shape, tensor.stride()) == (shape, strides)
        return None if same else keep(tensor)

    def unpack(packed: Kept | None) -> Tensor:
        if packed is not None:
            return restore(packed)
        if torch.is_grad_enabled():
            raise RuntimeError("cannot differentiate twice through a point that is computed again")
        with torch.no_grad():
            return compute(*(saved and restore(saved) for saved in kept))

    return torch.autograd.graph.saved_tensors_hooks(pack, unpack)
