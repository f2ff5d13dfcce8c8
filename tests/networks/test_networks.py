"""Networks: parity through shared weights, exact sizes, gradients everywhere."""

import csv
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from benchmark.arguments import parse_network
from benchmark.complexity import complexity
from lightning_modules import create_network, list_networks
from lightning_modules.networks.dense_blocks import DenseLayer
from lightning_modules.networks.registry import network_purpose
from lightning_modules.networks.rules import METHODS

GOLDEN = Path(__file__).parents[1] / "golden" / "networks.csv"


def golden():
    with GOLDEN.open() as file:
        return list(csv.DictReader(file))


def images(batch=4, size=32, seed=0):
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(seed))


def share_weights(source, target):
    """Load what both have; returns what the target alone has."""
    missing, unexpected = target.load_state_dict(source.state_dict(), strict=False)
    assert not unexpected
    return missing


def outputs_and_gradients(network, x):
    logits = network(x)
    logits.square().mean().backward()
    return logits, {name: p.grad for name, p in network.named_parameters()}


def assert_same(one, other, x=None):
    """Bit for bit: outputs in both modes, gradients and running statistics."""
    x = images() if x is None else x
    for mode in (True, False):
        logits, gradients = outputs_and_gradients(one.train(mode), x)
        logits2, gradients2 = outputs_and_gradients(other.train(mode), x)
        assert torch.equal(logits, logits2)
        for name, gradient in gradients.items():
            assert torch.equal(gradient, gradients2[name]), name
    buffers = dict(other.named_buffers())
    assert all(torch.equal(b, buffers[name]) for name, b in one.named_buffers())


def test_golden_lists_every_network():
    assert sorted({row["network"] for row in golden()}) == list_networks()


@pytest.mark.parametrize("row", golden(), ids=lambda row: f"{row['network']}-{row['options']}")
def test_parameters_and_multiply_adds(row):
    spec = parse_network(f"{row['network']}:{row['options']}").network
    size, classes = network_purpose(spec.name)
    assert complexity(spec, classes, (3, size, size)) == (int(row["parameters"]), int(row["multiply_adds"]))


@pytest.mark.parametrize("coefficients", ["fixed", "learned"])
def test_heavy_ball_with_1_0_is_resnet(coefficients):
    resnet = create_network("cifar_resnet20")
    hbnet = create_network("cifar_hbnet20", method="two_coefficient", a=1.0, b=0.0, coefficients=coefficients)
    missing = share_weights(resnet, hbnet)
    assert bool(missing) == (coefficients == "learned")
    assert_same(resnet, hbnet)


def test_heavy_ball_with_beta_0_is_resnet_or_plain():
    for baseline, reading in (("cifar_resnet20", "residual"), ("cifar_plain20", "fixed_point")):
        network = create_network(baseline)
        hbnet = create_network("cifar_hbnet20", beta=0.0, coefficients="fixed", reading=reading)
        share_weights(network, hbnet)
        assert_same(network, hbnet)


def test_heavy_ball_is_not_resnet_by_default():
    torch.manual_seed(0)
    resnet, hbnet = create_network("cifar_resnet20"), create_network("cifar_hbnet20")
    share_weights(resnet, hbnet)
    assert not torch.allclose(resnet(images()), hbnet(images()))


@pytest.mark.parametrize("name", ["cifar_densenet40", "cifar_densenet_bc100"])
def test_agdnet_with_ones_and_no_linear_terms_is_densenet(name):
    bottleneck = name == "cifar_densenet_bc100"
    options = {"depth": 22} | ({"bottleneck": True, "compression": 0.5} if bottleneck else {})
    densenet = create_network(name, **options)
    agdnet = create_network("cifar_agdnet40", coefficients="learned", linear_terms=False, **options)
    missing = share_weights(densenet, agdnet)
    assert missing
    assert all(".table." in key for key in missing)
    with torch.no_grad():
        for key, parameter in agdnet.named_parameters():
            if key in missing:
                parameter.fill_(1)
    assert_same(densenet, agdnet)


@pytest.mark.parametrize("reading", ["residual", "fixed_point"])
@pytest.mark.parametrize("bottleneck", [False, True])
def test_fixed_agdnet_equals_learned_at_its_start(reading, bottleneck, float64):
    """The O(1) recursion of the linear terms against the explicit sum over all earlier features."""
    options = {"depth": 40, "growth": 4, "reading": reading, "bottleneck": bottleneck}
    learned = create_network("cifar_agdnet40", coefficients="learned", **options)
    fixed = create_network("cifar_agdnet40", coefficients="fixed", **options)
    fixed.load_state_dict({k: v for k, v in learned.state_dict().items() if ".table." not in k})
    x = images(size=16).double()
    assert torch.allclose(learned(x), fixed(x), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("reading", ["residual", "fixed_point"])
@pytest.mark.parametrize("coefficients", ["learned", "fixed"])
@pytest.mark.parametrize("input_factor", [None, 0.75])
@pytest.mark.parametrize("memory_efficient", [False, True])
def test_agdnet_layer_by_hand(reading, coefficients, input_factor, memory_efficient, float64):
    """The block's formula and its gradients, written out with every x_j kept."""
    from lightning_modules.networks.dense_blocks import MultiStepDenseBlock
    from lightning_modules.networks.methods import multi_step_table, nesterov_betas

    torch.manual_seed(0)
    table = multi_step_table(nesterov_betas(4))
    if input_factor is not None:
        for row in table[1:]:
            row[0] = input_factor
    options = {"reading": reading, "coefficients": coefficients, "input_factor": input_factor}
    block = MultiStepDenseBlock(6, 4, 3, False, 0.0, **options, memory_efficient=memory_efficient).eval()
    if coefficients == "learned":
        for row, values in zip(block.table, table, strict=True):
            assert torch.allclose(row.detach(), torch.tensor(values))
        table = block.table
    x = [torch.randn(2, 6, 8, 8, requires_grad=True)]
    for k, layer in enumerate(block.layers):
        received = torch.relu(layer.norm1(torch.cat(x, 1)))
        parts = received.split([6] + [3] * k, 1)
        new = layer.conv1(torch.cat([h * part for h, part in zip(table[k], parts, strict=True)], 1))
        if k:
            new = new + x[k]
            if reading == "fixed_point":
                new = new - sum(table[k][j] * x[j] for j in range(1, k + 1))
        x.append(new)
    by_hand, result = torch.cat(x, 1), block(x[0])
    assert torch.allclose(result, by_hand, rtol=1e-10)
    direction = torch.randn_like(result)
    wanted = [x[0], *block.parameters()]
    for ours, theirs in zip(*(torch.autograd.grad(y, wanted, direction) for y in (result, by_hand)), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-8)


def test_nesterovs_layers_read_a_blocks_input_once_unless_it_has_a_factor():
    """h^0 is 0 after layer 0: of x_0 a block keeps what layer 0 makes of it."""
    from lightning_modules.networks.dense_blocks import MultiStepDenseBlock

    torch.manual_seed(0)
    x = torch.randn(2, 6, 8, 8, requires_grad=True)
    for factor, reads in ((None, False), (1.0, True)):
        block = MultiStepDenseBlock(6, 3, 3, False, 0.0, coefficients="fixed", input_factor=factor)
        block(x)[:, -3:].sum().backward()
        assert [bool(layer.conv1.weight.grad[:, :6].any()) for layer in block.layers] == [True, reads, reads]


def test_a_stage_restarts_its_history():
    """The first block of a stage has no momentum: a stage of one block is the baseline's, whatever beta is."""
    resnet = create_network("cifar_resnet20", depth=8)
    hbnet = create_network("cifar_hbnet20", depth=8, beta=0.9)
    assert not share_weights(resnet, hbnet)
    assert_same(resnet, hbnet)


@pytest.mark.parametrize("name", ["imagenet_hbnet34", "imagenet_hbnet50"])
def test_heavy_ball_by_hand_on_imagenets_blocks(name, float64):
    """Each stage against x_{k+1} = x_k + T_k(x_k) + beta_k (x_k - x_{k-1}), x_{-1} = x_0, written out."""
    torch.manual_seed(0)
    network = create_network(name, widths=(8, 12, 16, 20)).eval()
    x = network.stem(images(2, 64).double())
    for stage in network.stages:
        with torch.no_grad():
            stage.rule.beta.uniform_(-1, 1)
        expected = [stage.shortcut(x)]
        for k, transform in enumerate(stage.transforms):
            new = expected[-1] + transform(expected[-1] if k else x)
            if k:
                new = new + stage.rule.beta[k - 1] * (expected[-1] - expected[-2])
            expected.append(torch.relu(new))
        x = stage(x)
        torch.testing.assert_close(x, expected[-1], rtol=1e-10, atol=1e-12)


VARIANTS = [
    *((name, {}) for name in list_networks() if not name.endswith(("56", "110", "bc100", "52"))),
    ("cifar_densenet_bc100", {"depth": 22}),
    ("cifar_resnet20", {"shortcut": "projection"}),
    ("cifar_plain20", {"shortcut": "projection"}),
    ("cifar_resnet20", {"pre_activation": True}),
    ("cifar_hbnet20", {"pre_activation": True}),
    *(
        ("cifar_resnet20", {"method": method, "reading": reading, "coefficients": "learned"})
        for method in METHODS
        if method not in ("gradient_descent", "linearized_admm", "step_table")
        for reading in ("residual", "fixed_point")
    ),
    *(
        ("cifar_resnet20", {"method": "step_table", "table": [[1, 0, 0], [0.2, 1, 0], [0.1, 0.3, 1]], **options})
        for options in ({}, {"coefficients": "fixed"}, {"reading": "fixed_point"})
    ),
    *(
        ("cifar_resnet20", {"method": "linearized_admm", "reading": reading})
        for reading in ("residual", "fixed_point")
    ),
    *(
        ("cifar_hbnet20", {"method": method, "start": "zero", "shortcut": "projection", "reading": "fixed_point"})
        for method in ("heavy_ball", "two_coefficient")
    ),
    ("imagenet_hbnet34", {"reading": "fixed_point", "method": "two_coefficient"}),
    ("imagenet_hbnet18", {"method": "nesterov", "shortcut": "pad"}),
    ("imagenet_hbnet50", {"pre_activation": True}),
    ("imagenet_resnet18", {"pre_activation": True}),
    ("imagenet_agdnet121", {"reading": "fixed_point"}),
    ("imagenet_agdnet121", {"coefficients": "fixed", "memory_efficient": True}),
    ("cifar_agdnet40", {"depth": 22, "coefficients": "learned"}),
    ("cifar_agdnet40", {"depth": 22, "reading": "residual", "coefficients": "learned"}),
    ("cifar_agdnet40", {"depth": 22, "input_factor": 1}),
    ("cifar_agdnet40", {"depth": 22, "bottleneck": True, "compression": 0.5, "coefficients": "learned"}),
]


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=str)
def test_every_parameter_receives_a_finite_gradient(name, options):
    torch.manual_seed(0)
    network = create_network(name, **options)
    logits = network(images())
    assert logits.shape == (4, network_purpose(name).num_classes)
    torch.nn.functional.cross_entropy(logits, torch.arange(4)).backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key
        assert parameter.grad.abs().sum() > 0, key


def test_dropout_drops_only_in_training():
    torch.manual_seed(0)
    network = create_network("cifar_densenet40", depth=10, dropout=0.2)
    x = images()
    assert not torch.equal(network(x), network(x))
    network.eval()
    assert torch.equal(network(x), network(x))


@pytest.mark.parametrize("name", ["cifar_agdnet40", "cifar_densenet40", "cifar_hbnet20"])
def test_a_network_made_without_memory_is_whole_once_it_is_loaded(name):
    """As large ones are made on the meta device: what is no parameter must not be left to chance."""
    options = {"depth": 13} if "dense" in name or "agdnet" in name else {}
    network = create_network(name, **options).eval()
    with torch.device("meta"):
        other = create_network(name, **options)
    other.to_empty(device="cpu").load_state_dict(network.state_dict())
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(other.eval()(images), network(images))


def test_a_convolution_that_a_norm_was_folded_into_keeps_its_bias():
    torch.manual_seed(0)
    network = create_network("cifar_agdnet40", depth=10, bottleneck=True).eval()
    images = torch.randn(2, 3, 8, 8)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
    expected = network(images)
    for module in network.modules():
        if isinstance(module, DenseLayer):
            module.conv1, module.norm2 = fuse_conv_bn_eval(module.conv1, module.norm2), nn.Identity()
    torch.testing.assert_close(network(images), expected, rtol=1e-4, atol=1e-5)
