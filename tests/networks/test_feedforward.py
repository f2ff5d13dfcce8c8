"""The theory's networks: the rule's iterates between two linear maps, on images of any size."""

import pytest
import torch
import torch.nn.functional as F

from lightning_modules.networks import create_network
from lightning_modules.networks.feedforward import SymmetricLinear
from lightning_modules.networks.rules import create_rule


@pytest.mark.parametrize("image", ["start", "every_layer"])
@pytest.mark.parametrize("method", ["gradient_descent", "heavy_ball", "triple_momentum", "linearized_admm"])
def test_layers_are_iterations_of_the_method(method, image):
    torch.manual_seed(0)
    network = create_network("feedforward", depth=7, width=12, method=method, image=image, in_channels=1)
    images = torch.randn(5, 1, 8, 8)
    (linear,) = network.weights
    w = (linear.weight + linear.weight.T) / 2
    x = F.linear(images.flatten(1), network.embedding.weight, network.embedding.bias)
    u = x if image == "every_layer" else 0
    x = create_rule(method, 7, "fixed_point")(x, [lambda x: torch.tanh(x @ w + u)] * 7)
    torch.testing.assert_close(network(images), network.classifier(x))


def test_a_deep_network_forgets_its_image_unless_every_layer_sees_it():
    """f has one minimum: from two images the same point is reached, at the rate of the method."""
    images = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))

    def apart(**options):
        torch.manual_seed(0)
        first, second = create_network("feedforward", norm=0.5, in_channels=1, **options)(images)
        return (first - second).norm().item()

    assert apart(depth=30) < 1e-6
    assert apart(depth=30, image="every_layer") > 0.1


def test_weights_are_shared_or_free():
    def sizes(weight):
        network = create_network("feedforward", depth=5, width=12, weight=weight)
        return sum(p.numel() for p in network.weights.parameters())

    assert sizes("free") == 5 * sizes("shared") == 5 * 144


def test_free_layers_use_their_own_weight():
    network = create_network("feedforward", depth=3, width=12, weight="free", in_channels=1)
    images = torch.randn(2, 1, 8, 8)
    before = network(images)
    with torch.no_grad():
        network.weights[1].weight.zero_()
    assert not torch.allclose(network(images), before)


def test_the_weight_starts_symmetric_positive_definite_and_stays_symmetric():
    torch.manual_seed(0)
    linear = SymmetricLinear(10, norm=0.9)
    torch.testing.assert_close(linear.weight, linear.weight.T)
    eigenvalues = torch.linalg.eigvalsh(linear.weight)
    torch.testing.assert_close(eigenvalues[[0, -1]], torch.tensor([0.09, 0.9]))
    with torch.no_grad():
        linear.weight.copy_(torch.randn(10, 10))
    effective = linear(torch.eye(10))
    torch.testing.assert_close(effective, effective.T)


@pytest.mark.parametrize("size", [8, 28, 32])
def test_images_of_any_size_are_averaged(size):
    assert create_network("feedforward", in_channels=1)(torch.randn(2, 1, size, size)).shape == (2, 10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 0}, "depth and width must be at least 1, got 0 and 64"),
        ({"activation": "gelu"}, "unknown activation 'gelu'; valid: tanh, sigmoid, softplus, relu"),
        ({"weight": "tied"}, "unknown weight 'tied'; valid: shared, free"),
        ({"image": "end"}, "unknown image 'end'; valid: start, every_layer"),
        ({"norm": 1.0}, r"norm must be in \(0, 1\), got 1.0"),
        ({"method": "adam"}, "unknown method 'adam'"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        create_network("feedforward", **options)
