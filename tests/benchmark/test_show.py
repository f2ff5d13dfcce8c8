"""``list`` and ``show`` say what the networks are."""

import sys

import pytest
import torch

import benchmark.__main__ as cli
from benchmark import show
from benchmark.complexity import complexity
from benchmark.specs import NetworkSpec
from lightning_modules import create_network, list_networks
from lightning_modules.networks.registry import describe_network
from lightning_modules.networks.rules import step_table


def run(monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["benchmark", *words])
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return stop.value.code, capsys.readouterr()


def test_list_names_every_experiment_and_network(monkeypatch, capsys):
    code, (out, _) = run(monkeypatch, capsys, "list")
    assert code == 0
    assert all(name in out for name in list_networks())
    assert all(name in out for name in cli.EXPERIMENTS)
    assert "272,474" in next(line for line in out.splitlines() if "cifar_resnet20" in line) or "269,722" in out


@pytest.mark.parametrize("name", list_networks())
def test_every_network_has_a_line(name):
    assert len(describe_network(name)) > 10


@pytest.mark.parametrize(
    "spec",
    [
        NetworkSpec("cifar_hbnet20"),
        NetworkSpec("cifar_resnet20", {"shortcut": "projection"}),
        NetworkSpec("cifar_agdnet40", {"depth": 10}),
        NetworkSpec("cifar_agdnet40", {"depth": 10, "coefficients": "learned"}),
        NetworkSpec("cifar_densenet_bc100", {"depth": 22}),
        NetworkSpec("imagenet_hbnet50"),
        NetworkSpec("imagenet_agdnet121", {"growth": 8}),
        NetworkSpec("feedforward", {"depth": 3, "weight": "free"}),
    ],
    ids=lambda spec: spec.name,
)
def test_layers_add_up(spec):
    """Convolutions and linear maps are all of the multiply-adds; with the coefficients they are all parameters."""
    layers = show.list_layers(spec, 10, (3, 32, 32))
    parameters, multiply_adds = complexity(spec, 10, (3, 32, 32))
    assert 0 <= parameters - sum(layer.parameters for layer in layers) < 0.01 * parameters
    assert 0.9 * multiply_adds < sum(layer.multiply_adds for layer in layers) <= multiply_adds


@pytest.mark.parametrize("reading", ["residual", "fixed_point"])
def test_the_drawing_is_the_methods_table(reading):
    network = create_network("cifar_resnet20", method="triple_momentum", reading=reading)
    tables = dict(show.step_tables(network))
    assert list(tables) == [f"stages.{i}.rule" for i in range(3)]
    torch.testing.assert_close(tables["stages.1.rule"], step_table("triple_momentum", 3), rtol=1e-6, atol=1e-6)


def test_a_method_without_a_table_says_why():
    tables = dict(show.step_tables(create_network("cifar_hbnet20", start="zero")))
    assert "no step table can hold them" in tables["stages.1.rule"]


def test_shades():
    assert show.draw(torch.tensor([[1.0, 0.0], [torch.inf, 1.0]])) == ["  steps that are too large to be drawn"]
    drawing = show.draw(torch.tensor([[1.0, 0.0, 0.0], [0.5, 1.0, 0.0], [0.0, -1.0, 1.0]]))
    assert [line.split() for line in drawing[:3]] == [["x1", "█"], ["x2", "▒", "█"], ["x3", "·", "-", "█"]]


def test_show(monkeypatch, capsys):
    code, (out, _) = run(monkeypatch, capsys, "show", "cifar_hbnet20:depth=26")
    assert code == 0
    assert "stages.2.transforms.3.bn2" in out
    assert "64 x 8 x 8" in out
    assert "stages.0.rule: how much" in out


def test_imagenets_networks_are_shown_at_their_size(monkeypatch, capsys):
    code, (out, _) = run(monkeypatch, capsys, "show", "imagenet_hbnet34")
    assert code == 0
    assert "512 x 7 x 7" in out
    assert "21,797,684" in out
    _, (out, _) = run(monkeypatch, capsys, "show", "imagenet_hbnet34", "--size", "64", "--classes", "7")
    assert "512 x 2 x 2" in out
    assert f"{21_797_684 - 993 * 513:,}" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("cifar_hbnet21",), "unknown network 'cifar_hbnet21'; did you mean cifar_hbnet"),
        (("cifar_hbnet20:depth=9",), "depth 9 is not 6n + 2"),
        (("cifar_hbnet20:beta=1" + 400 * "0",), "beta must be a finite float32 number, got 1000"),
        (("cifar_hbnet20", "--size", "0"), "must be at least 1, got 0"),
    ],
)
def test_mistakes(monkeypatch, capsys, words, message):
    code, (_, error) = run(monkeypatch, capsys, "show", *words)
    assert code == 2
    assert error.startswith("error: ")
    assert message in error
    assert len(error.splitlines()) == 1
