"""The losses of the first 20 steps of each family: ``python -m tests.golden.losses`` writes losses.csv anew.

That needs a raised definition (``lightning_modules/networks/registry.py``) of each network whose losses changed:
runs of the old network then keep their ids, and those of the new one get others.
"""

import csv
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch

from datamodules import DigitsDataModule
from lightning_modules import LitClassifier
from lightning_modules.networks import network_definition

PATH = Path(__file__).with_suffix(".csv")
STEPS = 20
METHODS = (
    "gradient_descent",
    "heavy_ball",
    "nesterov",
    "nesterov_strongly_convex",
    "optimized_gradient",
    "triple_momentum",
    "chebyshev",
    "linearized_admm",
)
FAMILIES = {
    "plain": ("cifar_plain20", {"depth": 8}),
    "resnet": ("cifar_resnet20", {"depth": 8}),
    "hbnet": ("cifar_hbnet20", {"depth": 14}),
    "agdresnet": ("cifar_agdresnet20", {"depth": 14}),
    "densenet": ("cifar_densenet40", {"depth": 10, "dropout": 0.2}),
    "agdnet": ("cifar_agdnet40", {"depth": 10}),
    **{f"feedforward, {method}": ("feedforward", {"method": method, "depth": 5}) for method in METHODS},
    "feedforward, free": ("feedforward", {"weight": "free", "depth": 5}),
    "feedforward, injected": ("feedforward", {"image": "every_layer", "depth": 5}),
}
RECIPE = {"learning_rate": 0.005, "epochs": 1}
FIRST, LATER = 1e-4, 0.01
"""Relative differences of the first loss, and of the later ones, that other kernels can make: rounding grows."""

Golden = Mapping[str, tuple[int, list[float]]]
"""By family: the network's definition and its losses."""


def losses(family: str) -> list[float]:
    """Of plain training on the digits, batch 64, seed 0, float32, one thread."""
    name, options = FAMILIES[family]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        torch.manual_seed(0)
        model = LitClassifier(name, network_options={**options, "in_channels": 1}, recipe=RECIPE)
        datamodule = DigitsDataModule(batch_size=64, seed=0)
        datamodule.setup()
        optimizer = torch.optim.SGD(model.parameters(), lr=RECIPE["learning_rate"], momentum=0.9, nesterov=True)
        found = []
        for _, (images, labels) in zip(range(STEPS), datamodule.train_dataloader(), strict=False):
            loss = torch.nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            found.append(loss.item())
        return found
    finally:
        torch.set_num_threads(threads)


def same(found: Sequence[float], golden: Sequence[float]) -> bool:
    """Whether two series are of one network, whatever the kernels."""
    return found[0] == pytest.approx(golden[0], rel=FIRST) and found == pytest.approx(golden, rel=LATER)


def check(family: str, found: Sequence[float], golden: Golden) -> str | None:
    """What has to be done about a family, if anything."""
    definition = network_definition(FAMILIES[family][0])
    written, expected = golden.get(family, (0, []))
    if written == definition and not same(found, expected):
        return f"{family} is another network than its runs were: raise its definition in the registry"
    if written != definition:
        return f"{family} has no losses of definition {definition}: call `python -m tests.golden.losses`"
    return None


def read() -> Golden:
    """The golden losses."""
    with PATH.open() as file:
        return {row[0]: (int(row[1]), [float(value) for value in row[2:]]) for row in csv.reader(file)}


def main() -> None:
    """Write the losses, unless a changed network still has its old definition."""
    golden, rows = read(), []
    for family, (network, _) in FAMILIES.items():
        found, (written, _) = losses(family), golden.get(family, (0, []))
        definition = network_definition(network)
        if written == definition and (problem := check(family, found, golden)):
            sys.exit(problem)
        rows.append([family, definition, *found])
    with PATH.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


if __name__ == "__main__":
    main()
