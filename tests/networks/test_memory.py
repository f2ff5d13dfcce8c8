"""What is kept for the backward pass: no more than in the baselines, less on demand, and the same numbers."""

import contextlib
import functools
import subprocess
import sys
from itertools import accumulate, product
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from lightning_modules.networks import create_network, recomputation
from lightning_modules.networks.updates import COEFFICIENTS, READINGS, UpdateRule
from tests.networks.training import train

ROOT = Path(__file__).parents[2]
DEPTH = {
    "cifar_densenet40": 13,
    "cifar_agdnet40": 13,
    "cifar_densenet_bc100": 16,
    "imagenet_densenet121": 121,
    "imagenet_agdnet121": 121,
}
CASES = [
    ("cifar_densenet40", {}),
    ("cifar_densenet_bc100", {}),
    ("cifar_densenet40", {"dropout": 0.2}),
    *(
        ("cifar_agdnet40", {"reading": reading, "coefficients": coefficients})
        for reading in ("residual", "fixed_point")
        for coefficients in ("learned", "fixed")
    ),
    ("imagenet_densenet121", {"growth": 4}),
    ("imagenet_agdnet121", {"growth": 4, "coefficients": "fixed"}),
]


@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_same_training_and_running_statistics(name, options):
    usual, efficient = (
        create_network(name, depth=DEPTH[name], **options, memory_efficient=flag) for flag in (False, True)
    )
    efficient.load_state_dict(usual.state_dict())
    usual, efficient = usual.double(), efficient.double()
    size = 32 if name.startswith("imagenet_") else 8
    assert train(efficient, size) == pytest.approx(train(usual, size), rel=1e-12)
    for (key, value), other in zip(usual.state_dict().items(), efficient.state_dict().values(), strict=True):
        torch.testing.assert_close(value, other, rtol=1e-10, atol=1e-12, msg=key)
    norms = [m for m in efficient.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(norm.track_running_stats and norm.num_batches_tracked == 2 for norm in norms)


def test_a_graph_runs_backward_again():
    """As often as asked for, also to differentiate gradients; statistics count a batch once."""
    gradients = []
    for memory_efficient in (False, True):
        torch.manual_seed(0)
        network = create_network("cifar_densenet40", depth=13, memory_efficient=memory_efficient).double()
        loss = network(torch.randn(4, 3, 8, 8).double()).square().sum()
        loss.backward(retain_graph=True)
        first = torch.autograd.grad(loss, [*network.parameters()], create_graph=True)
        sum(gradient.square().sum() for gradient in first).backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
        assert all(m.num_batches_tracked == 1 for m in network.modules() if isinstance(m, nn.BatchNorm2d))
    for usual, efficient in zip(*gradients, strict=True):
        torch.testing.assert_close(usual, efficient, rtol=1e-8, atol=1e-10)


def test_batch_norms_of_a_group_update_their_statistics_once():
    network = create_network("cifar_densenet40", depth=13, memory_efficient=True).double()
    train(network := nn.SyncBatchNorm.convert_sync_batchnorm(network))
    norms = [m for m in network.modules() if isinstance(m, nn.SyncBatchNorm)]
    assert norms
    assert all(norm.num_batches_tracked == 2 for norm in norms)


def test_nothing_is_computed_again_without_gradients():
    network = create_network("cifar_densenet40", depth=13, memory_efficient=True)
    calls = []
    network.blocks[0].layers[0].register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        network(torch.randn(2, 3, 8, 8))
    assert len(calls) == 1


SAVED_BYTES = """
import sys, torch
from lightning_modules.networks import create_network
saved = {}
def keep(tensor):
    saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
    return tensor
network = create_network("cifar_densenet40", memory_efficient=sys.argv[1] == "True")
with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
    loss = network(torch.randn(2, 3, 32, 32)).sum()
print(sum(saved.values()))
"""


def test_a_third_of_the_bytes_are_kept_for_the_backward_pass():
    usual, efficient = (
        int(
            subprocess.run(
                [sys.executable, "-c", SAVED_BYTES, flag], cwd=ROOT, capture_output=True, check=True
            ).stdout
        )
        for flag in ("False", "True")
    )
    assert efficient < usual / 3


def peak_of_a_step(name, size=32, **options):
    """Bytes that torch has allocated at the peak of forward and backward pass, exactly."""
    torch.manual_seed(0)
    network = create_network(name, **options).to(memory_format=torch.channels_last)
    images = torch.randn(8, 3, size, size).contiguous(memory_format=torch.channels_last)
    network(images).sum().backward()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        network(images).sum().backward()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    return max(accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())))


@pytest.mark.parametrize("name", ["cifar_hbnet20", "cifar_agdresnet20"])
def test_accelerated_structures_take_a_resnets_memory(name):
    assert peak_of_a_step(name) < 1.05 * peak_of_a_step("cifar_resnet20")


@pytest.mark.parametrize("memory_efficient", [False, True])
def test_agdnet_takes_hardly_more_memory_than_densenet_in_any_form(memory_efficient):
    """Only sums over all earlier features need these apart from what the layers read."""
    options = {"depth": 22, "memory_efficient": memory_efficient}
    usual = peak_of_a_step("cifar_densenet40", **options)
    for form in product(READINGS, COEFFICIENTS):
        reading, coefficients = form
        peak = peak_of_a_step("cifar_agdnet40", reading=reading, coefficients=coefficients, **options)
        ratio = 1.005 if memory_efficient else 1.08 if form == ("fixed_point", "learned") else 1.03
        assert peak < ratio * usual


@pytest.mark.parametrize(("depth", "ratio"), [(34, 1.05), (50, 1.08)])
@pytest.mark.parametrize("method", ["heavy_ball", "nesterov"])
def test_on_imagenets_blocks_hardly_more(method, depth, ratio):
    """A stage's x_0 and one gradient come on top, and a bottleneck's features are wide."""
    small = {"size": 128, "widths": (16, 32, 64, 128)}
    peak = peak_of_a_step(f"imagenet_hbnet{depth}", method=method, **small)
    assert peak < ratio * peak_of_a_step(f"imagenet_resnet{depth}", **small)


@pytest.mark.parametrize("reading", ["residual", "fixed_point"])
@pytest.mark.parametrize("coefficients", ["learned", "fixed"])
@pytest.mark.parametrize("name", ["cifar_agdresnet20", "imagenet_hbnet50"])
def test_points_computed_again_give_the_same_gradients(name, reading, coefficients, monkeypatch):
    network = create_network(name, method="nesterov", reading=reading, coefficients=coefficients)
    images = torch.randn(4, 3, 16, 16)

    def gradients():
        network.zero_grad()
        network(images).square().sum().backward()
        return [parameter.grad.clone() for parameter in network.parameters()]

    lean = gradients()
    monkeypatch.setattr(UpdateRule, "_keeping", lambda *_: contextlib.nullcontext())
    for gradient, expected in zip(lean, gradients(), strict=True):
        assert torch.equal(gradient, expected)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("cifar_hbnet20", {}),
        ("cifar_agdresnet20", {}),
        ("cifar_agdresnet20", {"coefficients": "fixed"}),
        ("cifar_agdnet40", {"depth": 13, "coefficients": "learned"}),
        ("cifar_densenet40", {"depth": 13, "memory_efficient": True}),
    ],
    ids=str,
)
def test_what_was_kept_goes_with_the_result(name, options):
    """Also without a backward pass, which would free it."""
    weight = next((network := create_network(name, **options)).parameters())

    def notes():
        """Python's notes on the node that gathers the weight's gradient: gone once no graph holds the node."""
        return weight.expand_as(weight).grad_fn.next_functions[0][0].metadata

    logits = network(torch.randn(2, 3, 8, 8))
    notes()["seen"] = True
    assert notes()
    del logits
    assert not notes()


def test_second_derivatives_are_refused_where_they_would_be_wrong():
    network = create_network("cifar_agdresnet20", depth=20)
    loss = network(torch.randn(2, 3, 8, 8)).square().sum()
    with pytest.raises(RuntimeError, match="cannot differentiate twice"):
        torch.autograd.grad(loss, list(network.parameters()), create_graph=True)


@pytest.mark.parametrize(
    ("name", "weight"),
    [
        *((name, "transforms.1.conv1.weight") for name in ("cifar_resnet20", "cifar_hbnet20", "cifar_agdresnet20")),
        ("cifar_agdresnet20", "rule.beta"),
    ],
)
def test_what_changes_before_the_backward_pass_is_noticed(name, weight):
    """Also of what is kept by hooks, where autograd does not look."""
    network = create_network(name)
    loss = network(torch.randn(2, 3, 8, 8)).square().sum()
    with torch.no_grad():
        network.stages[0].get_parameter(weight).mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_activation_checkpointing_keeps_nothing_of_a_stage():
    """Hooks of our own would hide the stage from it."""
    network, kept = create_network("cifar_agdresnet20"), []
    images = torch.randn(2, 3, 8, 8)
    expected = torch.autograd.grad(network(images).square().sum(), list(network.parameters()))

    def checkpointed(stage, x):
        return checkpoint(type(stage).forward, stage, x, use_reentrant=False)

    for stage in network.stages:
        stage.forward = functools.partial(checkpointed, stage)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recomputation, "keep", lambda tensor: kept.append(tensor))
        loss = network(images).square().sum()
    assert not kept
    torch.testing.assert_close(torch.autograd.grad(loss, list(network.parameters())), expected)
