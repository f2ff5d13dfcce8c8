"""A network whose training batches of one shape run as compiled code or as CUDA graphs, and all else as it is.

Shapes: images (B, C, H, W), logits (B, num_classes).
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

GRAPHS = "graphs"
"""The way to run a network whose own kernels are captured once and then replayed, with nothing compiled."""

Forward = Callable[[Tensor], Tensor]


class FixedShape:
    """Calls a network; training batches that are shaped as the first one go a faster way, prepared at that batch.

    An epoch's smaller last batch and evaluation, few steps among many, call the network itself: each would be
    compiled for itself, which takes longer than they do.

    Once the weights lie elsewhere, as after a move to another device, the next batch is prepared for anew.

    Args:
        network: that has parameters.
        way: False for none, True or a mode for ``torch.compile``, ``GRAPHS`` for ``capture``.

    Raises:
        ValueError: ``GRAPHS`` with a memory_efficient network with dropout, whose masks are drawn a second time.
    """

    def __init__(self, network: nn.Module, way: bool | str) -> None:
        if way == GRAPHS and _has(network, "memory_efficient") and _has(network, "dropout"):
            raise ValueError("a memory_efficient network with dropout cannot be captured; leave out one of them")
        self.network, self.way = network, way
        self.prepared: Forward = network
        self.shape: torch.Size | None = None
        self.address = 0

    def __call__(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, num_classes)."""
        if not (self.way and self.network.training and torch.is_grad_enabled()):
            return self.network(images)
        address = next(self.network.parameters()).data_ptr()
        if address != self.address:
            self.prepared, self.shape, self.address = self._prepare(images), images.shape, address
        return self.prepared(images) if images.shape == self.shape else self.network(images)

    def _prepare(self, images: Tensor) -> Forward:
        if self.way == GRAPHS:
            return capture(self.network, images)
        mode = self.way if isinstance(self.way, str) else None
        return torch.compile(self.network, mode=mode, dynamic=False)


def _has(network: nn.Module, option: str) -> bool:
    return any(getattr(module, option, False) for module in network.modules())


def capture(network: nn.Module, images: Tensor) -> Forward:
    """The network's forward and backward pass on batches like ``images``, as CUDA graphs that are replayed.

    What small networks wait for on a GPU is the host, which launches a thousand kernels a step; a replay is one
    launch. The network itself is as before: weights, running statistics, gradients and the state of dropout's
    generator are those of before, and a call of it replays nothing.

    Raises:
        RuntimeError: the images are not on a GPU, or the network does what cannot be captured, such as waiting for
            the device.
    """
    if images.device.type != "cuda":
        raise RuntimeError(f"CUDA graphs need a GPU; the images are on the {images.device.type}")
    statistics = [buffer.clone() for buffer in network.buffers()]
    generator = torch.cuda.get_rng_state(images.device)
    dtype, enabled = torch.get_autocast_dtype("cuda"), torch.is_autocast_enabled("cuda")
    try:
        # weights that autocast has cast once must be cast at each replay, as they change in between
        with torch.autocast("cuda", dtype, enabled, cache_enabled=False):
            torch.cuda.make_graphed_callables(network, (images.clone(),), allow_unused_input=True)
        return network.forward
    finally:
        vars(network).pop("forward", None)  # where torch put what replays
        with torch.no_grad():
            for buffer, before in zip(network.buffers(), statistics, strict=True):
                buffer.copy_(before)
        torch.cuda.set_rng_state(generator, images.device)
