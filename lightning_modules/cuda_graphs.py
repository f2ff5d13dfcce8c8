"""A network's forward and backward pass on batches of one shape, as two CUDA graphs that are replayed.

Shapes: images (B, C, H, W), logits (B, num_classes).
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lightning_modules.stand_ins import StandIns, those_that_cast

WARM_UP_PASSES = 3
"""Before a capture, in which nothing may be set up or tried for the first time."""

NO_IMAGES = "images must have the shape and type of those captured with, and need no gradient"
ONE_BATCH = "a batch's backward pass must come once, and before the next batch's forward pass"
NO_GRADIENTS = "the gradients of the batch before must be set to None, as by zero_grad(set_to_none=True)"

Forward = Callable[[Tensor], Tensor]


def capture(network: nn.Module, images: Tensor, compiled: bool = False) -> Forward:
    """The network's forward and backward pass on batches like ``images``, as CUDA graphs that are replayed.

    Small networks on a GPU wait for the host, which launches each of their many kernels; a replay is one launch.
    The network itself is unchanged: weights, running statistics, gradients and the state of dropout's generator are
    as before, and calling it replays nothing.

    A backward pass sets each weight's ``grad``, or adds to what a penalty on the weights put there. Autograd does
    not see the weights, so ``torch.autograd.grad`` does not find them. A batch's backward pass must come before the
    next forward pass, which overwrites the gradients: they must have been used. They must be set to None before the
    next backward pass, as optimizers do unless told otherwise.

    As every batch has this shape, cuDNN tries its algorithms for each convolution, unless deterministic ones are
    asked for or the process has run the convolution before.

    Args:
        network: in training. While the returned function is used its weights and buffers must stay where they are,
            and its options what they are.
        images: whose values do not matter.
        compiled: capture the code that ``torch.compile`` makes of the network, which has fewer kernels.

    Raises:
        RuntimeError: the images are not on a GPU, or the network does what cannot be captured, such as waiting for
            the device, or has hooks, or gradients can still flow to it from what it returned before. Later, from
            images of another kind, or from a pass that comes in the wrong order or finds gradients.
    """
    if images.device.type != "cuda":
        raise RuntimeError(f"CUDA graphs need a GPU; the images are on the {images.device.type}")
    statistics = [buffer.clone() for buffer in network.buffers()]
    generator, stream = torch.cuda.get_rng_state(images.device), torch.cuda.current_stream(images.device)
    with torch.cuda.device(images.device):
        try:
            _expect_no_hooks(network)
            with _trying_algorithms():
                run = torch.compile(network, dynamic=False) if compiled else network
                graphs = Graphs(network, run, images)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            reason = str(error).partition("\n")[0]
            raise RuntimeError(
                f"the network cannot be captured as CUDA graphs ({reason}); take --compile default or off, in code "
                "compile=True or False"
            ) from error
        finally:
            with contextlib.suppress(RuntimeError):  # what failed is told; it may still write
                torch.cuda.synchronize(images.device)
            torch.cuda.set_stream(stream)  # torch leaves the capture's behind if it fails
            with torch.no_grad():
                for buffer, before in zip(network.buffers(), statistics, strict=True):
                    buffer.copy_(before)
            torch.cuda.set_rng_state(generator, images.device)
    anchor = torch.zeros((), device=images.device, requires_grad=True)
    return lambda images: Replay.apply(images, anchor, graphs)


def _expect_no_hooks(network: nn.Module) -> None:
    """Raises:
    RuntimeError: a module or a weight has hooks, which a replay would not call.
    """
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    hooks = [getattr(module, kind) for module in network.modules() for kind in kinds]
    for weight in network.parameters():
        hooks += [weight._backward_hooks, weight._post_accumulate_grad_hooks]
    if any(hooks):
        raise RuntimeError("it has hooks, which a replay would not call")


@contextlib.contextmanager
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
        return graphs.logits.clone()

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
        self.network, self.run = network, run
        # kept, so that nothing else comes to lie where a replay reads and writes
        self.memory = [tensor.detach() for tensor in (*network.parameters(), *network.buffers())]
        self.images = images.clone()
        self.weights = [weight for weight in network.parameters() if weight.requires_grad]
        self.dtype, self.casts = torch.get_autocast_dtype("cuda"), torch.is_autocast_enabled("cuda")
        self.batch = 0
        self.open: int | None = None
        stream = torch.cuda.Stream(images.device)
        torch.cuda.synchronize(images.device)
        with torch.cuda.stream(stream):
            with self._autocast():
                modules = those_that_cast(network, self.images, self.dtype) if self.casts else []
            self.stand_ins = StandIns(modules, self.dtype)
            for _ in range(WARM_UP_PASSES):
                self._forward()
                self.upstream = torch.zeros_like(self.logits)
                self._backward()
        torch.cuda.synchronize(images.device)
        self.forward_graph = record(self._forward, stream)
        self.backward_graph = record(self._backward, stream, self.forward_graph)

    def replay_forward(self, images: Tensor) -> int:
        """The logits of these images; returns the batch's number.

        Raises:
            RuntimeError: the images are of another kind.
        """
        if images.shape != self.images.shape or images.dtype != self.images.dtype or images.requires_grad:
            raise RuntimeError(NO_IMAGES)
        self.images.copy_(images)
        self.forward_graph.replay()
        self.batch += 1
        self.open = self.batch
        return self.batch

    def replay_backward(self, batch: int, gradient: Tensor) -> None:
        """The weights' gradients from that of the logits, (B, num_classes).

        Raises:
            RuntimeError: another batch came in between, or the weights have that batch's gradients.
        """
        if batch != self.open:
            raise RuntimeError(ONE_BATCH)
        pairs = [(w, g) for w, g in zip(self.weights, self.gradients, strict=True) if g is not None]
        if any(weight.grad is not None and weight.grad.data_ptr() == new.data_ptr() for weight, new in pairs):
            raise RuntimeError(NO_GRADIENTS)
        self.open = None
        self.upstream.copy_(gradient)
        self.backward_graph.replay()
        for weight, new in pairs:
            if weight.grad is None:
                weight.grad = new.detach()  # a tensor of its own, whose place may be changed
            else:
                weight.grad.add_(new)

    def _forward(self) -> None:
        with self._autocast(), self.stand_ins.in_place():
            self.stand_ins.refresh()
            self.logits = self.run(self.images)

    def _backward(self) -> None:
        """Also lets go of what autograd keeps: its nodes would make other passes wait for the capture's stream.

        Raises:
            RuntimeError: a weight is read beside what stands in for it, and would lose that part of its gradient.
        """
        leaves = [self.stand_ins.of(weight) for weight in self.weights]
        beside = list(self.stand_ins.copies)
        with torch.autocast("cuda", enabled=False), self.stand_ins.in_place():
            gradients = torch.autograd.grad(self.logits, [*leaves, *beside], self.upstream, allow_unused=True)
        if any(gradient is not None for gradient in gradients[len(leaves) :]):
            raise RuntimeError("a weight of a convolution or linear map is read by others, too")
        self.gradients = laid_out_as(self.weights, gradients[: len(leaves)])
        self.logits = self.logits.detach()

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Without its cache: a replay must cast weights anew, as they change in between."""
        return torch.autocast("cuda", self.dtype, self.casts, cache_enabled=False)


def laid_out_as(weights: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> list[Tensor | None]:
    """The gradients in their weights' type and memory layout, each in a place of its own, as optimizers expect.

    Those that are not so are copied at once.
    """
    results, pairs, places = [], [], set()
    for weight, gradient in zip(weights, gradients, strict=True):
        result = gradient
        if gradient is not None:
            is_alike = (gradient.dtype, gradient.stride()) == (weight.dtype, weight.stride())
            if not is_alike or gradient.data_ptr() in places:
                result = torch.empty_like(weight)
                pairs.append((result, gradient))
            places.add(gradient.data_ptr())
        results.append(result)
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
