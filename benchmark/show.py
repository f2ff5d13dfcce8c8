"""What can be run, and what a network is made of."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmark.arguments import parse_network
from benchmark.complexity import complexity
from benchmark.errors import UserError, closest, told_as
from benchmark.specs import Experiment, NetworkSpec
from lightning_modules.networks import create_network, list_networks, network_purpose
from lightning_modules.networks.dense_blocks import DenseBlock, DenseLayer, MultiStepDenseBlock
from lightning_modules.networks.registry import describe_network
from lightning_modules.networks.rules import table_of
from lightning_modules.networks.updates import UpdateRule

COLOURS = 3
SHADES = "·░▒▓█"
LEAVES = (nn.Conv2d, nn.BatchNorm2d, nn.Linear, DenseLayer)
WIDEST = 40
"""Layers that are drawn at most."""


@dataclass(frozen=True)
class Layer:
    """A module with parameters: the shape of its output for one image, its parameters and multiply-adds."""

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    multiply_adds: int


def print_experiments(experiments: Iterable[Experiment], console: Console) -> None:
    """Name, title, rows and data sets."""
    table = Table("experiment", "table", "rows", "data sets", box=box.SIMPLE_HEAD)
    for experiment in experiments:
        rows = sum(not row.extra for row in experiment.rows)
        extra = len(experiment.rows) - rows
        table.add_row(
            experiment.name,
            experiment.title,
            f"{rows}{f' + {extra}' if extra else ''}",
            ", ".join(experiment.datasets),
        )
    console.print(table)


def print_networks(console: Console) -> None:
    """Name, parameters and multiply-adds on CIFAR-10 or ImageNet, one line of description."""
    table = Table("network", box=box.SIMPLE_HEAD)
    table.add_column("parameters", justify="right")
    table.add_column("mult-adds", justify="right")
    table.add_column("structure")
    for name in list_networks():
        size, classes = network_purpose(name)
        parameters, multiply_adds = complexity(NetworkSpec(name), classes, (COLOURS, size, size))
        table.add_row(name, f"{parameters:,}", f"{multiply_adds / 1e6:.1f} M", describe_network(name))
    console.print(table)


def print_network(text: str, size: int | None, classes: int | None, console: Console) -> None:
    """Layers and drawings of ``NAME[:OPTION=VALUE,...]``, by default for the images it is made for.

    Raises:
        UserError: unknown network or option, or images that are too small for it.
    """
    spec = parse_network(text).network
    if spec.name not in list_networks():
        raise UserError(f"unknown network {spec.name!r}; {closest(spec.name, list_networks())}")
    purpose = network_purpose(spec.name)
    size = purpose.image_size if size is None else size
    classes = purpose.num_classes if classes is None else classes
    if size < 1 or classes < 1:
        raise UserError(f"--size and --classes must be at least 1, got {size} and {classes}")
    with told_as(spec.name):
        layers = list_layers(spec, classes, (COLOURS, size, size))
        network = create_network(spec.name, classes, **spec.options)
    table = Table(title=escape(text), box=box.SIMPLE_HEAD)
    table.add_column("layer", overflow="fold")
    table.add_column("kind")
    table.add_column("output")
    table.add_column("parameters", justify="right")
    table.add_column("mult-adds", justify="right")
    for layer in layers:
        shape = " x ".join(map(str, layer.shape))
        table.add_row(layer.name, layer.kind, shape, f"{layer.parameters:,}", f"{layer.multiply_adds:,}")
    rest = sum(p.numel() for p in network.parameters()) - sum(layer.parameters for layer in layers)
    if rest:
        table.add_row("coefficients", "scalars", "", f"{rest:,}", "")
    total = complexity(spec, classes, (COLOURS, size, size))
    table.add_section()
    table.add_row("all", "", "", f"{total[0]:,}", f"{total[1]:,}")
    console.print(table)
    for name, steps in step_tables(network):
        console.print(f"\n{name}: how much of each layer's step (column) each layer (row) adds", highlight=False)
        lines = [f"  {steps}"] if isinstance(steps, str) else draw(steps)
        console.print("\n".join(lines), highlight=False, markup=False)


def list_layers(spec: NetworkSpec, classes: int, image_shape: tuple[int, int, int]) -> list[Layer]:
    """Convolutions, batch norms, linear maps and whole dense layers, as they are called; on the meta device."""
    called: dict[str, tuple[nn.Module, tuple[int, ...]]] = {}

    def note(name: str, module: nn.Module, _: Any, output: Tensor) -> None:
        called.setdefault(name, (module, tuple(output.shape[1:])))

    with torch.device("meta"):
        network = create_network(spec.name, classes, in_channels=image_shape[0], **spec.options).eval()
        for name, module in network.named_modules():
            if isinstance(module, LEAVES) and not isinstance(
                network.get_submodule(name.rpartition(".")[0]), LEAVES
            ):
                module.register_forward_hook(partial(note, name))
        with FlopCounterMode(display=False, depth=None) as counter:
            network(torch.empty(1, *image_shape))
    counts = counter.get_flop_counts()
    root = type(network).__name__
    return [
        Layer(
            name,
            type(module).__name__,
            shape,
            sum(p.numel() for p in module.parameters()),
            sum(counts.get(f"{root}.{name}", {}).values()) // 2,
        )
        for name, (module, shape) in called.items()
    ]


def step_tables(network: nn.Module) -> Iterator[tuple[str, Tensor | str]]:
    """For each stage its name and table of steps, (layers, layers); of a dense block its inputs' coefficients.

    Where there is none, why.
    """
    for name, module in network.named_modules():
        if isinstance(module, UpdateRule):
            try:
                yield name, table_of(module)
            except ValueError as error:
                yield name, str(error)
        elif isinstance(module, MultiStepDenseBlock):
            rows = module.factors
            yield name, torch.tensor([row + [0.0] * (len(rows) - len(row)) for row in rows])
        elif isinstance(module, DenseBlock):
            yield name, torch.ones(len(module.layers), len(module.layers)).tril()


def draw(steps: Tensor) -> list[str]:
    """A line for each layer with a shade for each step by its size, or a minus where it is negative."""
    if not steps.isfinite().all():
        return ["  steps that are too large to be drawn"]
    shown = steps[:WIDEST, :WIDEST]
    largest = float(shown.abs().max()) or 1.0
    lines = []
    for k, row in enumerate(shown.tolist()):
        cells = [_shade(value, largest) for value in row[: k + 1]]
        lines.append(f"  x{k + 1:<3} {' '.join(cells)}")
    if len(steps) > WIDEST:
        lines.append(f"  ... {len(steps) - WIDEST} more layers")
    lines.append(f"  {SHADES[0]} nothing to {SHADES[-1]} {largest:.2f}; a minus is a negative step")
    return lines


def _shade(value: float, largest: float) -> str:
    level = round(abs(value) / largest * (len(SHADES) - 1))
    return "-" if value < 0 and level else SHADES[level]
