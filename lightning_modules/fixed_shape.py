"""A network whose training batches of one shape run as compiled code or as CUDA graphs, all else eagerly.

Shapes: images (B, C, H, W), logits (B, num_classes).
"""

from typing import Any

import torch
from torch import Tensor, nn

from lightning_modules.cuda_graphs import Forward, capture
from lightning_modules.networks.options import choice

GRAPHS, COMPILED_GRAPHS = "graphs", "compiled-graphs"
"""Ways to run a network whose kernels are captured once and then replayed: its own, or those of compiled code."""

CAPTURED = (GRAPHS, COMPILED_GRAPHS)

NO_MASKS_TWICE = "a memory_efficient network with dropout cannot be captured as CUDA graphs; leave out one of them"


class FixedShape:
    """Calls a network; training batches that are shaped as the first one go a faster way, prepared at that batch.

    An epoch's smaller last batch and evaluation, few steps among many, call the network itself: each would be
    compiled for itself, which takes longer than they do.

    Preparation is repeated at the next batch once a weight or a buffer has moved, as to another device, or was
    frozen or unfrozen, a module switched between training and evaluation, or autocast or the images changed type.

    Args:
        network: whose modules stay the same objects and, while it trains, keep their options.
        way: False for none, True or a mode for ``torch.compile``, one of ``CAPTURED`` for ``capture``.

    Raises:
        ValueError: an unknown way, or a capture of a memory_efficient network with dropout, whose masks are drawn a
            second time.
    """

    def __init__(self, network: nn.Module, way: bool | str) -> None:
        if way not in (False, True, *CAPTURED):
            choice("way to compile", way, (False, True, *CAPTURED, *list_modes()))
        if way in CAPTURED and has_option(network, "memory_efficient") and has_option(network, "dropout"):
            raise ValueError(NO_MASKS_TWICE)
        self.network, self.way = network, way
        self.modules = list(network.modules())  # looking for them takes as long as all else at a batch
        self.tensors = [place for m in self.modules for place in (m._parameters, m._buffers) if place]
        self._forget()

    def _forget(self) -> None:
        self.prepared: Forward = self.network
        self.shape: torch.Size | None = None
        self.made_for: tuple[Any, ...] = ()

    def __getstate__(self) -> dict[str, Any]:
        """A copy prepares for itself; what is prepared cannot be pickled."""
        return {"network": self.network, "way": self.way}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)

    def __call__(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, num_classes)."""
        if not (self.way and self.network.training and torch.is_grad_enabled()):
            return self.network(images)
        if (now := self._conditions(images)) != self.made_for:
            self._forget()  # first, so that what was prepared before gives back its memory
            self.prepared, self.shape, self.made_for = self._prepare(images), images.shape, now
        return self.prepared(images) if images.shape == self.shape else self.network(images)

    def _conditions(self, images: Tensor) -> tuple[Any, ...]:
        """Where weights and buffers lie, whether they are trained, and what is cast: a replay knows one way."""
        device = images.device.type
        tensors = [tensor for place in self.tensors for tensor in place.values() if tensor is not None]
        return (
            images.dtype,
            torch.is_autocast_enabled(device),
            torch.get_autocast_dtype(device),
            *[module.training for module in self.modules],
            *[tensor.data_ptr() for tensor in tensors],
            *[tensor.requires_grad for tensor in tensors],
        )

    def _prepare(self, images: Tensor) -> Forward:
        if self.way in CAPTURED:
            return capture(self.network, images, compiled=self.way == COMPILED_GRAPHS)
        mode = self.way if isinstance(self.way, str) else None
        return torch.compile(self.network, mode=mode, dynamic=False)


def list_modes() -> list[str]:
    """Of ``torch.compile``, whose default is True."""
    from torch import _inductor

    return list(_inductor.list_mode_options())


def has_option(network: nn.Module, option: str) -> bool:
    """Whether the option is set, or not 0, in any part of the network."""
    return any(getattr(module, option, False) for module in network.modules())
