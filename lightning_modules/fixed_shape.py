"""A network whose training batches of one shape run as compiled code or as CUDA graphs, and all else as it is.

Shapes: images (B, C, H, W), logits (B, num_classes).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

GRAPHS = "graphs"
"""The way to run a network whose own kernels are captured once and then replayed, with nothing compiled."""

NO_MASKS_TWICE = "a memory_efficient network with dropout cannot be captured as CUDA graphs; leave out one of them"

Forward = Callable[[Tensor], Tensor]


class FixedShape:
    """Calls a network; training batches that are shaped as the first one go a faster way, prepared at that batch.

    An epoch's smaller last batch and evaluation, few steps among many, call the network itself: each would be
    compiled for itself, which takes longer than they do.

    Once the weights lie elsewhere, as after a move to another device, or autocast casts to another type, the next
    batch is prepared for anew.

    Args:
        network: whose parameters stay the same objects.
        way: False for none, True or a mode for ``torch.compile``, ``GRAPHS`` for ``capture``.

    Raises:
        ValueError: ``GRAPHS`` with a memory_efficient network with dropout, whose masks are drawn a second time.
    """

    def __init__(self, network: nn.Module, way: bool | str) -> None:
        if way == GRAPHS and has_option(network, "memory_efficient") and has_option(network, "dropout"):
            raise ValueError(NO_MASKS_TWICE)
        self.network, self.way = network, way
        self.weights = list(network.parameters())  # looking for them takes a fifth of a millisecond
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
        if (now := self._conditions(images.device.type)) != self.made_for:
            self._forget()  # first, so that what was prepared before gives back its memory
            self.prepared, self.shape, self.made_for = self._prepare(images), images.shape, now
        return self.prepared(images) if images.shape == self.shape else self.network(images)

    def _conditions(self, device: str) -> tuple[Any, ...]:
        """Where the weights lie, and what autocast makes of them: a replay reads there, and casts so."""
        addresses = (weight.data_ptr() for weight in self.weights)
        return torch.is_autocast_enabled(device), torch.get_autocast_dtype(device), *addresses

    def _prepare(self, images: Tensor) -> Forward:
        if self.way == GRAPHS:
            return capture(self.network, images)
        mode = self.way if isinstance(self.way, str) else None
        return torch.compile(self.network, mode=mode, dynamic=False)


def has_option(network: nn.Module, option: str) -> bool:
    """Whether the option is set, or not 0, in any part of the network."""
    return any(getattr(module, option, False) for module in network.modules())


def capture(network: nn.Module, images: Tensor) -> Forward:
    """The network's forward and backward pass on batches like ``images``, as CUDA graphs that are replayed.

    What small networks wait for on a GPU is the host, which launches each of their many kernels; a replay is one
    launch. The network itself is as before: weights, running statistics, gradients and the state of dropout's
    generator are those of before, and a call of it replays nothing.

    The gradients of a replay lie where those of the next one will: they must be used and set to None before it, as
    Lightning does unless it accumulates them, and a batch's backward pass must come before the next forward pass.

    Raises:
        RuntimeError: the images are not on a GPU, or the network does what cannot be captured, such as waiting for
            the device, or gradients can still flow to it from what it returned before.
    """
    if images.device.type != "cuda":
        raise RuntimeError(f"CUDA graphs need a GPU; the images are on the {images.device.type}")
    statistics = [buffer.clone() for buffer in network.buffers()]
    generator, stream = torch.cuda.get_rng_state(images.device), torch.cuda.current_stream(images.device)
    dtype, enabled = torch.get_autocast_dtype("cuda"), torch.is_autocast_enabled("cuda")
    try:
        # weights that autocast has cast once must be cast at each replay, as they change in between
        with torch.autocast("cuda", dtype, enabled, cache_enabled=False):
            torch.cuda.make_graphed_callables(network, (images.clone(),), allow_unused_input=True)
        _expect_gradients_of_another_stream()
        return network.forward
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise RuntimeError(
            f"the network cannot be captured as CUDA graphs ({reason}); take --compile default or off, in code "
            "compile=True or False"
        ) from error
    finally:
        torch.cuda.set_stream(stream)  # torch leaves its own behind if it fails
        vars(network).pop("forward", None)  # where torch put what replays
        with torch.no_grad():
            for buffer, before in zip(network.buffers(), statistics, strict=True):
                buffer.copy_(before)
        torch.cuda.set_rng_state(generator, images.device)


def _expect_gradients_of_another_stream() -> None:
    """torch would warn at the first replay, which its own capture makes so; ends this warning for good."""
    if hasattr(torch.autograd.graph, "set_warn_on_accumulate_grad_stream_mismatch"):  # since torch 2.11
        torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(False)
