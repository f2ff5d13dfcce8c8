"""Stacked seeds are the seeds alone, to rounding; processes are measured together, at once or in turns."""

import pytest
import torch
import torch.nn.functional as F

from benchmark import machine
from benchmark.errors import UserError
from benchmark.speed import suite
from benchmark.speed.packing import StackedNetwork, stacked_loss, time_processes, time_stacked
from lightning_modules.networks import create_network
from lightning_modules.recipes import DEFAULTS, create_optimizer

SEEDS, STEPS, BATCH = 3, 3, 4
CASES = [
    ("cifar_resnet20", {"depth": 8}),
    ("cifar_hbnet20", {"depth": 14}),
    ("cifar_agdresnet20", {"depth": 14}),
    ("cifar_agdresnet20", {"depth": 14, "method": "nesterov_multi_step"}),
    ("cifar_densenet40", {"depth": 10}),
    ("cifar_agdnet40", {"depth": 10}),
    ("cifar_agdnet40", {"depth": 13, "coefficients": "learned"}),
    ("cifar_agdnet40", {"depth": 10, "reading": "residual", "coefficients": "learned"}),
]


def seeded(name, options, seed):
    torch.manual_seed(seed)
    return create_network(name, **options).double()


@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_a_stacked_seed_equals_the_seed_alone(name, options):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(STEPS, SEEDS, BATCH, 3, 8, 8, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 10, (STEPS, SEEDS, BATCH), generator=generator)
    recipe = {**DEFAULTS, "weight_decay": 5e-2}
    stack = StackedNetwork([seeded(name, options, seed) for seed in range(SEEDS)])
    optimizer = create_optimizer(stack, recipe)
    for batch, target in zip(images, labels, strict=True):
        optimizer.zero_grad()
        stacked_loss(stack(batch), target).backward()
        optimizer.step()
    for seed in range(SEEDS):
        alone = seeded(name, options, seed)
        optimizer = create_optimizer(alone, recipe)
        for batch, target in zip(images[:, seed], labels[:, seed], strict=True):
            optimizer.zero_grad()
            F.cross_entropy(alone(batch).float(), target).backward()
            optimizer.step()
        stacked = {name: value[seed] for name, value in stack.stacked.state_dict().items()}
        assert stacked.keys() == alone.state_dict().keys()
        for key, value in alone.state_dict().items():
            torch.testing.assert_close(stacked[key], value, rtol=1e-5, atol=1e-6, msg=lambda m, k=key: f"{k}: {m}")
        alone.eval(), stack.eval()
        torch.testing.assert_close(stack(images[0])[seed], alone(images[0, seed]), rtol=1e-4, atol=1e-5)
        stack.train()


def test_both_ways_are_timed():
    task = suite.Settings("cpu", "32-true", "off", batch_size=4, blocks=1, steps=2).task("cifar_resnet20:depth=8")
    assert time_stacked(task, 2, steps=2) > 0
    assert time_processes(task, 2, steps=2) > 0


def test_a_process_that_dies_is_an_error_and_not_a_wait():
    task = suite.Settings("cpu", "32-true", "off", batch_size=4, blocks=1, steps=2).task("cifar_resnet20:depth=9")
    with pytest.raises(UserError, match="exit code 1"):
        time_processes(task, 1, steps=1)


def test_networks_that_compute_again_are_not_stacked():
    networks = [create_network("cifar_densenet40", depth=10, memory_efficient=True) for _ in range(2)]
    with pytest.raises(ValueError, match="memory_efficient networks cannot be stacked"):
        StackedNetwork(networks)


@pytest.mark.parametrize(
    ("device", "has_mps", "way"),
    [("cuda", True, "processes by MPS"), ("cuda", False, "processes"), ("cpu", True, "processes")],
)
def test_processes_that_share_a_gpu_by_mps_are_a_way_of_their_own(monkeypatch, device, has_mps, way):
    monkeypatch.setattr(machine, "has_mps", lambda: has_mps)
    for measure_runs in ("time_processes", "time_stacked"):
        monkeypatch.setattr(suite, measure_runs, lambda task, count, steps: 0.5)
    settings = suite.Settings(device, "32-true", "off", batch_size=8, blocks=1, steps=2)
    first, second = suite.measure_packing(["cifar_resnet20:depth=8"], [4], settings, lambda line: None)
    assert (first["way"], second["way"]) == (way, "stacked")
    assert first["runs/hour"] == pytest.approx(3600 * 4 * 8 / 0.5 / (300 * 50_000))
