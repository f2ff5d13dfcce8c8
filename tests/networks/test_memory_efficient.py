"""Dense networks that keep less for the backward pass: the same numbers, in less memory."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lightning_modules.networks import create_network

ROOT = Path(__file__).parents[2]
DEPTH = {"cifar_densenet40": 13, "cifar_agdnet40": 13, "cifar_densenet_bc100": 16}
CASES = [
    ("cifar_densenet40", {}),
    ("cifar_densenet_bc100", {}),
    ("cifar_densenet40", {"dropout": 0.2}),
    *(
        ("cifar_agdnet40", {"reading": reading, "coefficients": coefficients})
        for reading in ("residual", "fixed_point")
        for coefficients in ("learned", "fixed")
    ),
]


def train(network, steps=2):
    """Losses of a few steps of SGD; dropout draws from one seed."""
    torch.manual_seed(1)
    images, labels = torch.randn(4, 3, 8, 8, dtype=torch.float64), torch.tensor([0, 1, 2, 3])
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    losses = []
    for _ in range(steps):
        loss = F.cross_entropy(network(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_same_training_and_running_statistics(name, options):
    usual, efficient = (
        create_network(name, depth=DEPTH[name], **options, memory_efficient=flag) for flag in (False, True)
    )
    efficient.load_state_dict(usual.state_dict())
    usual, efficient = usual.double(), efficient.double()
    assert train(efficient) == pytest.approx(train(usual), rel=1e-12)
    for (key, value), other in zip(usual.state_dict().items(), efficient.state_dict().values(), strict=True):
        torch.testing.assert_close(value, other, rtol=1e-10, atol=1e-12, msg=key)
    norms = [m for m in efficient.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(norm.track_running_stats and norm.num_batches_tracked == 2 for norm in norms)


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
