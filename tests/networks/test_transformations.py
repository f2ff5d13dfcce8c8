"""What others make of a network's code: a graph to read features from or to export, forward-mode derivatives."""

import io

import pytest
import torch
from torch import fx
from torch.autograd import forward_ad
from torch.func import functional_call

from lightning_modules.networks import create_network
from lightning_modules.networks.rules import METHODS
from lightning_modules.networks.updates import COEFFICIENTS, READINGS

TABLE = {"step_table": {"table": [[1.0], [0.5, 1.0]]}}
NETWORKS = [
    *(("cifar_resnet20", {"depth": 14, "method": method, **TABLE.get(method, {})}) for method in METHODS),
    *(
        ("cifar_agdnet40", {"depth": 13, "reading": reading, "coefficients": coefficients})
        for reading in READINGS
        for coefficients in COEFFICIENTS
    ),
    ("cifar_densenet40", {"depth": 13}),
    ("imagenet_hbnet18", {"widths": (8, 8, 16, 16)}),
]


@pytest.mark.parametrize(
    ("name", "options"), [*NETWORKS, ("cifar_densenet40", {"memory_efficient": True})], ids=str
)
def test_a_network_can_be_traced(name, options):
    """As feature extractors do."""
    network = create_network(name, **options).eval()
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(fx.symbolic_trace(network)(images), network(images))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize(
    ("name", "options"), [*NETWORKS, ("cifar_densenet40", {"memory_efficient": True})], ids=str
)
def test_a_network_can_be_traced_by_an_example(name, options):
    """As TensorBoard does to draw it, in training; a trace can be saved and takes any batch."""
    network = create_network(name, **options)
    traced = torch.jit.trace(network, torch.randn(3, 3, 32, 32), check_trace=False)
    file = io.BytesIO()
    torch.jit.save(traced, file)
    file.seek(0)
    loaded, images = torch.jit.load(file), torch.randn(5, 3, 32, 32)
    torch.testing.assert_close(loaded(images), network(images))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("cifar_agdresnet20", {"depth": 14}),
        ("cifar_agdnet40", {"depth": 13}),
        ("cifar_densenet40", {"depth": 13, "memory_efficient": True}),
    ],
    ids=str,
)
def test_two_traces_of_a_network_are_the_same(name, options):
    """``torch.jit.trace`` looks itself, unless told otherwise; what is computed again would differ."""
    network = create_network(name, **options).eval()
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(torch.jit.trace(network, images)(images), network(images))


@pytest.mark.parametrize(
    ("name", "options"), [*NETWORKS, ("cifar_densenet40", {"depth": 13, "memory_efficient": True})], ids=str
)
def test_a_network_can_be_exported(name, options):
    """For any batch, as ONNX and other formats need."""
    network = create_network(name, **options).eval()
    batch = torch.export.Dim("batch", max=64)
    exported = torch.export.export(network, (torch.randn(2, 3, 32, 32),), dynamic_shapes=({0: batch},))
    images = torch.randn(5, 3, 32, 32)
    torch.testing.assert_close(exported.module()(images), network(images))


@pytest.mark.parametrize(("name", "options"), NETWORKS, ids=str)
def test_a_network_has_forward_mode_derivatives(name, options, float64):
    """In training, along all weights: those of the backward pass."""
    torch.manual_seed(0)
    network = create_network(name, **options)
    images, weights = torch.randn(4, 3, 32, 32), dict(network.named_parameters())
    tangents = {key: torch.randn_like(weight) for key, weight in weights.items()}
    loss = network(images).square().mean()
    gradients = torch.autograd.grad(loss, list(weights.values()), materialize_grads=True)
    with forward_ad.dual_level():
        duals = {key: forward_ad.make_dual(weight, tangents[key]) for key, weight in weights.items()}
        found = forward_ad.unpack_dual(functional_call(network, duals, (images,)).square().mean()).tangent
    expected = sum((gradient * tangents[key]).sum() for key, gradient in zip(weights, gradients, strict=True))
    torch.testing.assert_close(found, expected)
