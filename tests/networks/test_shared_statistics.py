"""Batch statistics counted once: the same numbers as torch's own batch norm, layer by layer and in training."""

import pytest
import torch
from torch import nn

from lightning_modules.networks import create_network, dense_blocks
from lightning_modules.networks.dense_blocks import DenseLayer
from lightning_modules.networks.shared_statistics import SharedStatisticsNorm, batch_statistics
from tests.networks.training import train

SHAPES = [(4, 12, 8, 8), (2, 16, 32, 32), (3, 7, 5, 5), (3, 64, 2, 6), (5, 3, 1, 1)]
LAYOUTS = (torch.channels_last, torch.contiguous_format)
NETWORKS = [
    ("cifar_densenet40", {"depth": 13}),
    ("cifar_densenet40", {"depth": 13, "memory_efficient": True}),
    ("cifar_densenet_bc100", {"depth": 16}),
    ("cifar_agdnet40", {"depth": 13}),
    ("cifar_agdnet40", {"depth": 13, "reading": "residual", "coefficients": "learned"}),
]


def shifted(*shape, dtype=torch.float64, layout=torch.channels_last):
    """Noise whose channels differ in mean and variance."""
    torch.manual_seed(0)
    x = torch.randn(*shape, dtype=torch.float64) * torch.rand(shape[1], 1, 1) + torch.randn(shape[1], 1, 1)
    return x.to(dtype).contiguous(memory_format=layout)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_statistics_are_those_of_the_batch(shape, layout):
    x = shifted(*shape, layout=layout)
    variance, mean = torch.var_mean(x, (0, 2, 3), correction=0)
    torch.testing.assert_close(batch_statistics(x), torch.stack([mean, variance]), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_statistics_of_low_precision_are_counted_in_float32(dtype):
    x = shifted(16, 12, 32, 32, dtype=dtype)
    variance, mean = torch.var_mean(x.double(), (0, 2, 3), correction=0)
    counted = batch_statistics(x)
    assert counted.dtype == torch.float32
    torch.testing.assert_close(counted.double(), torch.stack([mean, variance]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_norm_that_is_told_statistics_is_batch_norm(layout):
    told, usual = SharedStatisticsNorm(12).double(), nn.BatchNorm2d(12).double()
    with torch.no_grad():
        for norm in (told, usual):
            norm.weight.copy_(torch.linspace(-1, 2, 12))
            norm.bias.copy_(torch.linspace(1, -1, 12))
    x = shifted(4, 12, 8, 8, layout=layout)
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    outputs = [told(inputs[0], batch_statistics(x)), usual(inputs[1])]
    torch.testing.assert_close(*outputs)
    weights = torch.randn(x.shape, dtype=x.dtype)
    for output in outputs:
        (weights * output.tanh()).sum().backward()
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad)
    torch.testing.assert_close([p.grad for p in told.parameters()], [p.grad for p in usual.parameters()])
    torch.testing.assert_close(told.state_dict(), usual.state_dict())


def test_a_frozen_norm_keeps_to_its_running_statistics():
    norm = SharedStatisticsNorm(12).double().eval()
    x = shifted(4, 12, 8, 8)
    torch.testing.assert_close(norm(x, batch_statistics(x)), x / (1 + norm.eps) ** 0.5)
    assert norm.num_batches_tracked == 0


def test_one_value_a_channel_is_refused_as_by_torch():
    x = torch.randn(1, 12, 1, 1)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        SharedStatisticsNorm(12)(x, batch_statistics(x))


@pytest.mark.parametrize(("name", "options"), NETWORKS, ids=str)
def test_training_is_that_of_usual_batch_norms(name, options):
    torch.manual_seed(0)
    shared = create_network(name, **options).double()
    usual = create_network(name, **options).double()
    usual.load_state_dict(shared.state_dict())
    for layer in usual.modules():
        if isinstance(layer, DenseLayer):
            layer.norm1 = nn.BatchNorm2d(layer.norm1.num_features).double()
    assert train(shared, steps=3) == pytest.approx(train(usual, steps=3), rel=1e-11)
    for (key, value), other in zip(shared.state_dict().items(), usual.state_dict().values(), strict=True):
        torch.testing.assert_close(value, other, rtol=1e-9, atol=1e-11, msg=key)


@pytest.mark.parametrize("memory_efficient", [False, True])
def test_each_channel_is_counted_once(monkeypatch, memory_efficient):
    counted = []

    def count(x):
        counted.append(x.shape[1])
        return batch_statistics(x)

    monkeypatch.setattr(dense_blocks, "batch_statistics", count)
    network = create_network("cifar_densenet40", depth=13, memory_efficient=memory_efficient)
    images = torch.randn(2, 3, 8, 8)
    network(images).sum().backward()
    assert counted == [16, 12, 12, 12, 52, 12, 12, 12, 88, 12, 12, 12]
    counted.clear()
    network.eval()(images)
    assert counted == []
