"""Batch statistics counted once: the same numbers as torch's own batch norm, layer by layer and in training."""

import contextlib
import copy

import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

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
    x = torch.randn(*shape, dtype=torch.float64) * (torch.rand(shape[1], 1, 1) + 0.5) + torch.randn(shape[1], 1, 1)
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
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_a_norm_that_is_told_statistics_is_batch_norm(layout, dtype):
    """Also in low precision with weights of float32, as under autocast."""
    kind = torch.promote_types(dtype, torch.float32)
    eps = torch.finfo(dtype).eps
    told, usual = SharedStatisticsNorm(12).to(kind), nn.BatchNorm2d(12).to(kind)
    with torch.no_grad():
        for norm in (told, usual):
            norm.weight.copy_(torch.linspace(-1, 2, 12))
            norm.bias.copy_(torch.linspace(1, -1, 12))
    x = shifted(4, 12, 8, 8, dtype=dtype, layout=layout)
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    outputs = [told(inputs[0], batch_statistics(x)), usual(inputs[1])]
    torch.testing.assert_close(*outputs, rtol=4 * eps, atol=20 * eps)
    weights = torch.randn(x.shape, dtype=x.dtype)
    for output in outputs:
        (weights * output.tanh()).sum().backward()
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad, rtol=4 * eps, atol=20 * eps)
    gradients = [[p.grad for p in norm.parameters()] for norm in (told, usual)]  # sums of 256 products
    torch.testing.assert_close(*gradients, rtol=20 * eps, atol=100 * torch.finfo(kind).eps)
    torch.testing.assert_close(told.state_dict(), usual.state_dict(), rtol=1e-5, atol=1e-6)


def freeze(norm):
    norm.eval()


def track_nothing(norm):
    norm.track_running_stats = False


def average_all_batches(norm):
    norm.momentum = None


@pytest.mark.parametrize("change", [freeze, track_nothing, average_all_batches])
def test_a_norm_of_other_settings_does_as_torchs_own(change):
    x = shifted(4, 12, 8, 8)
    norms = SharedStatisticsNorm(12).double(), nn.BatchNorm2d(12).double()
    for norm in norms:
        change(norm)
    torch.testing.assert_close(norms[0](x, batch_statistics(x)), norms[1](x))
    torch.testing.assert_close(norms[0].state_dict(), norms[1].state_dict())


def test_one_value_a_channel_is_refused_as_by_torch():
    network = create_network("cifar_densenet40", depth=10)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        network(torch.randn(1, 3, 4, 4))


def put_torchs_own(layer):
    layer.norm1 = nn.BatchNorm2d(layer.norm1.num_features)


@pytest.mark.parametrize("change", [put_torchs_own, lambda layer: layer.norm1.eval()], ids=["torch's", "frozen"])
def test_nothing_is_counted_for_norms_that_do_not_take_it(monkeypatch, change):
    monkeypatch.setattr(dense_blocks, "batch_statistics", None)
    network = create_network("cifar_densenet40", depth=10)
    for layer in network.modules():
        if isinstance(layer, DenseLayer):
            change(layer)
    network(torch.randn(2, 3, 8, 8)).sum().backward()


def change_input(module, args):
    return (3 * args[0] + 1, *args[1:])


def change_inputs_of_norms(module, args):
    return change_input(module, args) if isinstance(module, nn.BatchNorm2d) else None


@pytest.mark.parametrize("module", ["layers.1", "layers.1.norm1", None])
def test_what_a_hook_makes_of_the_input_is_what_is_counted(module):
    torch.manual_seed(0)
    shared = create_network("cifar_densenet40", depth=13)
    usual = copy.deepcopy(shared)
    for layer in usual.modules():
        if isinstance(layer, DenseLayer):
            put_torchs_own(layer)
    images = torch.randn(4, 3, 8, 8)
    if module:
        for network in (shared, usual):
            network.blocks[0].get_submodule(module).register_forward_pre_hook(change_input)
    with register_module_forward_pre_hook(change_inputs_of_norms) if module is None else contextlib.nullcontext():
        torch.testing.assert_close(shared(images), usual(images))
    torch.testing.assert_close(shared.state_dict(), usual.state_dict())


def test_a_layer_may_be_wrapped():
    network = create_network("cifar_densenet40", depth=13)
    layers = network.blocks[0].layers
    layers[1] = nn.Sequential(layers[1], nn.Dropout(0.1))
    network(torch.randn(2, 3, 8, 8)).sum().backward()


@pytest.mark.parametrize(("name", "options"), NETWORKS, ids=str)
def test_training_is_that_of_usual_batch_norms(name, options):
    torch.manual_seed(0)
    shared = create_network(name, **options).double()
    usual = create_network(name, **options).double()
    usual.load_state_dict(shared.state_dict())
    for layer in usual.modules():
        if isinstance(layer, DenseLayer):
            put_torchs_own(layer)
    usual.double()
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
    assert counted == [16, 12, 12, 52, 12, 12, 88, 12, 12]
    counted.clear()
    network.eval()(images)
    assert counted == []
