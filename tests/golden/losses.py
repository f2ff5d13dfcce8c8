"""The losses of the first steps of each family: ``python -m tests.golden.losses`` writes losses.csv anew.

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
STEPS, DEEP_STEPS = 20, 6
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
NARROW = {"widths": (8, 12, 16, 20)}
FAMILIES = {
    "plain": ("cifar_plain20", {"depth": 8}),
    "resnet": ("cifar_resnet20", {"depth": 8}),
    "hbnet": ("cifar_hbnet20", {"depth": 14}),
    "agdresnet": ("cifar_agdresnet20", {"depth": 14}),
    "densenet": ("cifar_densenet40", {"depth": 10, "dropout": 0.2}),
    "agdnet": ("cifar_agdnet40", {"depth": 10}),
    "agdnet, residual, learned": (
        "cifar_agdnet40",
        {"depth": 10, "reading": "residual", "coefficients": "learned"},
    ),
    "imagenet_resnet": ("imagenet_resnet18", NARROW),
    "imagenet_resnet, bottlenecks": ("imagenet_resnet50", NARROW),
    "imagenet_hbnet": ("imagenet_hbnet18", NARROW),
    "imagenet_densenet": ("imagenet_densenet121", {"growth": 4}),
    "imagenet_agdnet": ("imagenet_agdnet121", {"growth": 4}),
    **{f"feedforward, {method}": ("feedforward", {"method": method, "depth": 5}) for method in METHODS},
    "feedforward, free": ("feedforward", {"weight": "free", "depth": 5}),
    "feedforward, injected": ("feedforward", {"image": "every_layer", "depth": 5}),
}
RECIPE = {"learning_rate": 0.005, "epochs": 1}
FIRST, LATER = 1e-4, 0.01
"""Relative differences of the first loss, and of the later ones, that other kernels can make: rounding grows."""

Golden = Mapping[str, tuple[int, list[float]]]
"""By family: the network's definition and its losses."""


def is_deep(family: str) -> bool:
    """Whether it is one of ImageNet's networks."""
    return family.startswith("imagenet_")


def steps(family: str) -> int:
    """How many losses a family has."""
    return DEEP_STEPS if is_deep(family) else STEPS


def losses(family: str) -> list[float]:
    """Of plain training on the digits, batch 64, seed 0, one thread: 20 steps in float32.

    ImageNet's networks see each pixel as 4 x 4 and take 6 steps in float64: float32's rounding, in networks so deep
    and at their start, grows to percents of the loss within a step.
    """
    name, options = FAMILIES[family]
    deep = is_deep(family)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        torch.manual_seed(0)
        model = LitClassifier(name, 10, network_options={**options, "in_channels": 1}, recipe=RECIPE)
        model.to(torch.float64 if deep else torch.float32)
        datamodule = DigitsDataModule(batch_size=64, seed=0)
        datamodule.setup()
        optimizer = torch.optim.SGD(model.parameters(), lr=RECIPE["learning_rate"], momentum=0.9, nesterov=True)
        found = []
        for _, (images, labels) in zip(range(steps(family)), datamodule.train_dataloader(), strict=False):
            if deep:
                images = images.double().repeat_interleave(4, 2).repeat_interleave(4, 3)
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
    definition = network_definition(*FAMILIES[family])
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
    for family, (network, options) in FAMILIES.items():
        found, (written, _) = losses(family), golden.get(family, (0, []))
        definition = network_definition(network, options)
        if written == definition and (problem := check(family, found, golden)):
            sys.exit(problem)
        rows.append([family, definition, *found])
    with PATH.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


if __name__ == "__main__":
    main()
