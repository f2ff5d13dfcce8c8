"""Replayed training is the network's own, and a capture leaves the network as it was.

What would be recorded on a GPU is done again at each replay, in the CPU's autocast, into the same memory; those of
``test_cuda_graphs_on_gpu.py`` are recorded.
"""

import contextlib
import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lightning_modules import create_network
from lightning_modules.cuda_graphs import capture, laid_out_as

CASES = [
    ("cifar_hbnet20", {"depth": 14}),
    ("cifar_agdresnet20", {"depth": 14}),
    ("cifar_agdnet40", {"depth": 13, "coefficients": "learned"}),
    ("cifar_agdnet40", {"depth": 13, "coefficients": "learned", "reading": "fixed_point", "dropout": 0.2}),
    ("cifar_densenet40", {"depth": 10, "memory_efficient": True}),
]


def small_network(**options):
    torch.manual_seed(0)
    return create_network("cifar_hbnet20", depth=14, **options)


class OnGPU(torch.Tensor):
    """Says that it is on a GPU, and its copies are not: what a capture asks for."""

    device = torch.device("cuda")

    def clone(self):
        return self.as_subclass(torch.Tensor).clone()


class DoneAgain:
    """A graph that does again what it should have recorded, and writes the results where they lay at first."""

    def __init__(self, function):
        function()
        self.function, self.graphs = function, function.__self__
        self.is_forward = function.__name__ == "_forward"
        if self.is_forward:
            self.logits = self.graphs.logits.detach()
            self.graphs.with_history = self.graphs.logits
        else:
            self.gradients = self.graphs.gradients
            self.places = [None if gradient is None else gradient.detach() for gradient in self.gradients]

    def replay(self):
        graphs = self.graphs
        if self.is_forward:
            with torch.enable_grad():
                self.function()
            graphs.with_history = graphs.logits
            self.logits.copy_(graphs.logits.detach())
            graphs.logits = self.logits
        else:
            logits, graphs.logits = graphs.logits, graphs.with_history
            self.function()
            for place, new in zip(self.places, graphs.gradients, strict=True):
                if place is not None:
                    place.copy_(new)
            graphs.gradients, graphs.logits = self.gradients, logits


@pytest.fixture
def no_gpu(monkeypatch):
    """A GPU's state without a GPU; what a capture sets again, and the setting that it was made under."""
    seen = {"states": []}

    def record(function, stream, after=None):
        seen["benchmark"] = torch.backends.cudnn.benchmark
        return DoneAgain(function)

    zeros, autocast = torch.zeros, torch.autocast
    is_enabled, dtype = torch.is_autocast_enabled, torch.get_autocast_dtype
    for name, value in {
        "cuda.get_rng_state": lambda device: "the generator",
        "cuda.set_rng_state": lambda state, device: seen["states"].append(state),
        "cuda.current_stream": lambda device: "the stream",
        "cuda.set_stream": seen["states"].append,
        "cuda.Stream": lambda device: "another stream",
        "cuda.stream": contextlib.nullcontext,
        "cuda.device": contextlib.nullcontext,
        "cuda.synchronize": lambda device: None,
        "zeros": lambda *size, device=None, **options: zeros(*size, **options),
        "autocast": lambda device, *values, **options: autocast("cpu", *values, **options),
        "is_autocast_enabled": lambda device: is_enabled("cpu"),
        "get_autocast_dtype": lambda device: dtype("cpu"),
    }.items():
        monkeypatch.setattr(f"torch.{name}", value)
    monkeypatch.setattr("lightning_modules.cuda_graphs.record", record)
    return seen


def captured(network, images):
    return capture(network, images.as_subclass(OnGPU))


def test_graphs_without_a_gpu():
    with pytest.raises(RuntimeError, match="CUDA graphs need a GPU; the images are on the cpu"):
        capture(small_network(), torch.randn(2, 3, 8, 8))


def test_a_capture_leaves_the_network_as_it_was(no_gpu):
    """Its passes count batches, move running statistics and draw masks."""
    network = small_network()
    before = copy.deepcopy(network.state_dict())
    captured(network, torch.randn(4, 3, 8, 8))
    assert no_gpu == {"states": ["the stream", "the generator"], "benchmark": True}
    assert not torch.backends.cudnn.benchmark
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(parameter.grad is None for parameter in network.parameters())


def test_deterministic_algorithms_are_not_tried_against_each_other(no_gpu, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    captured(small_network(), torch.randn(4, 3, 8, 8))
    assert no_gpu["benchmark"] is False


def test_a_capture_that_fails_leaves_the_network_as_it_was(no_gpu, monkeypatch):
    def fail(function, stream, after=None):
        function()
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr("lightning_modules.cuda_graphs.record", fail)
    network = small_network()
    before = copy.deepcopy(network.state_dict())
    message = r"cannot be captured as CUDA graphs \(operation not permitted when.*\); take --compile default or off"
    with pytest.raises(RuntimeError, match=message):
        captured(network, torch.randn(4, 3, 8, 8))
    assert no_gpu["states"] == ["the stream", "the generator"]
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize(
    "add",
    [
        lambda network: network.classifier.weight.register_hook(lambda gradient: None),
        lambda network: network.classifier.weight.register_post_accumulate_grad_hook(lambda weight: None),
        lambda network: network.stem.register_forward_hook(lambda module, inputs, outputs: None),
        lambda network: network.stem.register_full_backward_hook(lambda module, inputs, outputs: None),
    ],
)
def test_hooks_which_a_replay_would_not_call_prevent_a_capture(no_gpu, add):
    network = small_network()
    add(network)
    message = r"cannot be captured .*\(it has hooks, which a replay would not call\); take --compile default or off"
    with pytest.raises(RuntimeError, match=message):
        captured(network, torch.randn(2, 3, 8, 8))


@pytest.mark.parametrize("enabled", [False, True], ids=["float32", "bf16"])
@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_a_backward_pass_gives_the_weights_their_gradients(no_gpu, name, options, enabled):
    """Those that are not trained get none; the smaller batches go through the network in between."""
    torch.manual_seed(0)
    network = create_network(name, **options)
    next(network.parameters()).requires_grad = False
    twin = copy.deepcopy(network)
    with torch.autocast("cpu", torch.bfloat16, enabled):
        replay = captured(network, torch.randn(6, 3, 8, 8))
    for count in (6, 4, 6):
        images, labels = torch.randn(count, 3, 8, 8), torch.randint(0, 10, (count,))
        for run, owner in ((replay if count == 6 else network, network), (twin, twin)):
            owner.zero_grad()
            torch.manual_seed(1)  # of dropout
            with torch.autocast("cpu", torch.bfloat16, enabled):
                logits = run(images).float()
            F.cross_entropy(logits, labels).backward()
        for (path, weight), expected in zip(network.named_parameters(), twin.parameters(), strict=True):
            if expected.grad is None:
                assert weight.grad is None, path
            else:
                torch.testing.assert_close(weight.grad, expected.grad)
                assert weight.grad.stride() == weight.stride()
        for owner in (network, twin):
            with torch.no_grad():
                for weight in owner.parameters():
                    weight.grad is None or weight.sub_(0.1 * weight.grad)
    for (path, buffer), expected in zip(network.named_buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(buffer, expected, msg=path)


def test_a_gradient_that_is_put_elsewhere_leaves_a_replay_its_place(no_gpu):
    """As by clipping that is written by hand."""
    network = small_network()
    images = torch.randn(2, 3, 8, 8)
    replay = captured(network, images)
    gradients = []
    for _ in range(3):
        network.zero_grad()
        replay(images).sum().backward()
        gradients.append(network.classifier.weight.grad.clone())
        for weight in network.parameters():
            weight.grad.data = weight.grad.data.clamp(-1e-3, 1e-3)
    assert torch.equal(gradients[0], gradients[1])
    assert torch.equal(gradients[1], gradients[2])


@pytest.mark.parametrize("is_first", [False, True])
def test_penalties_on_weights_add_to_the_gradients(no_gpu, is_first):
    """Whichever autograd comes to first."""
    network, images = small_network(), torch.randn(2, 3, 8, 8)
    twin = copy.deepcopy(network)
    weight, other = network.classifier.weight, twin.classifier.weight
    replay = captured(network, images)
    penalty = weight.square().sum() if is_first else 0
    loss = replay(images).square().sum()
    (loss + (penalty if is_first else weight.square().sum())).backward()
    (twin(images).square().sum() + other.square().sum()).backward()
    torch.testing.assert_close(weight.grad, other.grad)


def test_passes_in_the_wrong_order_are_told(no_gpu):
    network, images = small_network(), torch.randn(2, 3, 8, 8)
    replay = captured(network, images)
    first = replay(images).sum()
    second = replay(images).sum()
    with pytest.raises(RuntimeError, match="must come once, and before the next batch's forward pass"):
        first.backward()
    second.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="must come once, and before the next batch's forward pass"):
        second.backward()
    with pytest.raises(RuntimeError, match=r"must be set to None, as by zero_grad\(set_to_none=True\)"):
        replay(images).sum().backward()


def test_images_of_another_kind_are_told(no_gpu):
    network, images = small_network(), torch.randn(2, 3, 8, 8)
    replay = captured(network, images)
    for wrong in (images[:1], images.double(), images.clone().requires_grad_()):
        with pytest.raises(RuntimeError, match="must have the shape and type of those captured with"):
            replay(wrong)


def test_logits_of_a_batch_outlast_the_next(no_gpu):
    replay = captured(small_network(), torch.randn(2, 3, 8, 8))
    first = replay(torch.randn(2, 3, 8, 8))
    before = first.clone()
    replay(torch.randn(2, 3, 8, 8))
    assert torch.equal(first, before)


def test_a_weight_that_is_read_beside_its_module_prevents_a_capture_in_low_precision(no_gpu):
    """Its stand-in has one part of the gradient, the weight the other."""

    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
            self.second.weight = self.first.weight

        def forward(self, x):
            with torch.autocast("cpu", enabled=False):
                x = self.second(x)
            return self.first(x)

    network, images = Tied(), torch.randn(2, 4)
    captured(network, images)
    message = "cannot be captured .*a weight of a convolution or linear map is read by others, too.*take --compile"
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(RuntimeError, match=message):
        captured(network, images)
    assert network.first.weight is network.second.weight


def test_gradients_are_laid_out_as_their_weights():
    weight = torch.randn(4, 3, 2, 2).contiguous(memory_format=torch.channels_last)
    gradient = torch.randn(4, 3, 2, 2, dtype=torch.bfloat16)
    same = torch.randn(3)
    results = laid_out_as([weight, same, same, same], [gradient, same, None, same])
    assert results[0].stride() == weight.stride()
    assert torch.equal(results[0], gradient.float())
    assert results[1] is same
    assert results[2] is None
    assert results[3] is not same  # two weights with one gradient would be scaled twice where it is clipped
    assert torch.equal(results[3], same)
