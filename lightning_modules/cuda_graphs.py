"""A network's forward and backward pass on batches of one shape, as two CUDA graphs that are replayed.

Shapes: images (B, C, H, W), logits (B, num_classes).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

WARM_UP_PASSES = 3
"""Before a capture, in which nothing may be set up or tried for the first time."""

ONE_BATCH = "a batch's backward pass must come once, and before the next batch's forward pass"
NO_GRADIENTS = "gradients of the batch before must be set to None, since those of this one lie where they lay"

Forward = Callable[[Tensor], Tensor]


def capture(network: nn.Module, images: Tensor, compiled: bool = False) -> Forward:
    """The network's forward and backward pass on batches like ``images``, as CUDA graphs that are replayed.

    What small networks wait for on a GPU is the host, which launches each of their many kernels; a replay is one
    launch. The network itself is as before: weights, running statistics, gradients and the state of dropout's
    generator are those of before, and a call of it replays nothing.

    A backward pass sets each weight's ``grad``; autograd does not see the weights, so ``torch.autograd.grad`` and
    hooks on weights do not work. Gradients must be set to None before the next one, as optimizers do unless told
    otherwise, and a batch's backward pass must come before the next forward pass.

    As every batch has this shape, cuDNN tries its algorithms for each convolution, unless deterministic ones are
    asked for.

    Args:
        network: in training; its parameters must stay where they are while the returned function is used.
        images: whose values do not matter.
        compiled: capture the code that ``torch.compile`` makes of the network, which has fewer kernels.

    Raises:
        RuntimeError: the images are not on a GPU, or the network does what cannot be captured, such as waiting for
            the device, or has hooks on its weights, or gradients can still flow to it from what it returned before.
            Later, from a pass that comes in the wrong order or finds gradients.
    """
    if images.device.type != "cuda":
        raise RuntimeError(f"CUDA graphs need a GPU; the images are on the {images.device.type}")
    if any(weight._backward_hooks or weight._post_accumulate_grad_hooks for weight in network.parameters()):
        raise RuntimeError("the network cannot be captured as CUDA graphs (its weights have hooks)")
    statistics = [buffer.clone() for buffer in network.buffers()]
    generator, stream = torch.cuda.get_rng_state(images.device), torch.cuda.current_stream(images.device)
    try:
        with _trying_algorithms():
            graphs = Graphs(network, torch.compile(network, dynamic=False) if compiled else network, images)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise RuntimeError(
            f"the network cannot be captured as CUDA graphs ({reason}); take --compile default or off, in code "
            "compile=True or False"
        ) from error
    finally:
        torch.cuda.set_stream(stream)  # torch leaves the capture's behind if it fails
        with torch.no_grad():
            for buffer, before in zip(network.buffers(), statistics, strict=True):
                buffer.copy_(before)
        torch.cuda.set_rng_state(generator, images.device)
    anchor = torch.zeros((), device=images.device, requires_grad=True)
    return lambda images: Replay.apply(images, anchor, graphs)


@contextmanager
def _trying_algorithms() -> Iterator[None]:
    before = torch.backends.cudnn.benchmark
    fixed = torch.backends.cudnn.deterministic or torch.are_deterministic_algorithms_enabled()
    torch.backends.cudnn.benchmark = before or not fixed
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


class Replay(torch.autograd.Function):
    """Replays the graphs; the anchor, which needs a gradient and gets none, makes autograd call ``backward``."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, anchor: Tensor, graphs: "Graphs") -> Tensor:
        """(B, C, H, W) -> (B, num_classes)."""
        ctx.graphs, ctx.batch = graphs, graphs.replay_forward(images)
        return graphs.logits.detach()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, None]:
        """``gradient`` (B, num_classes)."""
        ctx.graphs.replay_backward(ctx.batch, gradient)
        return None, None, None


class Graphs:
    """The two graphs, and the tensors that a replay reads and writes.

    Under autocast the weights of convolutions and linear maps are cast at once, and so are their gradients: cast
    one by one, each in a kernel of its own, they take a twentieth of a ResNet-56 step.

    Args:
        network: whose weights get gradients.
        run: calls it.
        images: (B, C, H, W), on a GPU.
    """

    def __init__(self, network: nn.Module, run: Forward, images: Tensor) -> None:
        self.network, self.run = network, run  # kept, as a replay writes to the network's running statistics
        self.images = images.clone()
        self.weights = [weight for weight in network.parameters() if weight.requires_grad]
        self.dtype, self.casts = torch.get_autocast_dtype("cuda"), torch.is_autocast_enabled("cuda")
        self.cast = LowPrecision(network, self.dtype) if self.casts else None
        self.batch = 0
        self.open: int | None = None
        stream = torch.cuda.Stream(images.device)
        torch.cuda.synchronize(images.device)
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP_PASSES):
                self._forward()
                self.upstream = torch.zeros_like(self.logits)
                self._backward()
        torch.cuda.synchronize(images.device)
        self.forward_graph = record(self._forward, stream)
        self.backward_graph = record(self._backward, stream, self.forward_graph)

    def replay_forward(self, images: Tensor) -> int:
        """The logits of these images; returns the batch's number."""
        self.images.copy_(images)
        self.forward_graph.replay()
        self.batch += 1
        self.open = self.batch
        return self.batch

    def replay_backward(self, batch: int, gradient: Tensor) -> None:
        """The weights' gradients from that of the logits, (B, num_classes).

        Raises:
            RuntimeError: another batch came in between, or the weights have gradients.
        """
        if batch != self.open:
            raise RuntimeError(ONE_BATCH)
        if any(weight.grad is not None for weight in self.weights):
            raise RuntimeError(NO_GRADIENTS)
        self.open = None
        self.upstream.copy_(gradient)
        self.backward_graph.replay()
        for weight, gradient in zip(self.weights, self.gradients, strict=True):
            weight.grad = gradient

    def _forward(self) -> None:
        with self._casting():
            if self.cast:
                self.cast.refresh()
            self.logits = self.run(self.images)

    def _backward(self) -> None:
        """Also lets go of what autograd keeps: its nodes would make other passes wait for the capture's stream."""
        leaves = [self.cast.of(weight) for weight in self.weights] if self.cast else self.weights
        with self._casting():
            gradients = torch.autograd.grad(self.logits, leaves, self.upstream, allow_unused=True)
        self.gradients = laid_out_as(self.weights, gradients)
        self.logits = self.logits.detach()

    @contextmanager
    def _casting(self) -> Iterator[None]:
        """Autocast without its cache: a replay must cast weights anew, as they change in between."""
        with torch.autocast("cuda", self.dtype, self.casts, cache_enabled=False):
            if not self.cast:
                yield
                return
            with self.cast.in_place():
                yield


class LowPrecision:
    """Weights of a network's convolutions and linear maps in another type, to stand in for them for a while.

    Frozen weights, and those of modules derived from them, which may do more with a weight, are left out.
    """

    def __init__(self, network: nn.Module, dtype: torch.dtype) -> None:
        self.places = [
            (module, name, weight)
            for module in network.modules()
            if type(module) in (nn.Conv2d, nn.Linear)
            for name, weight in module.named_parameters(recurse=False)
            if weight.requires_grad
        ]
        self.copies = {weight: nn.Parameter(weight.detach().to(dtype)) for _, _, weight in self.places}

    def of(self, weight: nn.Parameter) -> nn.Parameter:
        """What stands in for it, or the weight itself."""
        return self.copies.get(weight, weight)

    def refresh(self) -> None:
        """Copy the weights of now, in one kernel for many."""
        if self.copies:
            with torch.no_grad():
                torch._foreach_copy_(list(self.copies.values()), list(self.copies))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        try:
            for module, name, weight in self.places:
                module._parameters[name] = self.copies[weight]
            yield
        finally:
            for module, name, weight in self.places:
                module._parameters[name] = weight


def laid_out_as(weights: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> list[Tensor | None]:
    """The gradients in their weights' type and memory layout, as optimizers expect them; copied at once."""
    results = [
        gradient
        if gradient is None or (gradient.dtype, gradient.stride()) == (weight.dtype, weight.stride())
        else torch.empty_like(weight)
        for weight, gradient in zip(weights, gradients, strict=True)
    ]
    pairs = [(new, old) for new, old in zip(results, gradients, strict=True) if new is not old]
    if pairs:
        with torch.no_grad():
            torch._foreach_copy_(*map(list, zip(*pairs, strict=True)))
    return results


def record(
    function: Callable[[], None], stream: torch.cuda.Stream, after: torch.cuda.CUDAGraph | None = None
) -> torch.cuda.CUDAGraph:
    """What the function does on the device, in the memory of the graph that is replayed before it."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=after.pool() if after else None, stream=stream):
        function()
    return graph
