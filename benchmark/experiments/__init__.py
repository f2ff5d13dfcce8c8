"""The tables, one module each. ``get_experiment(name)`` and ``EXPERIMENTS``."""

from benchmark.errors import UserError, closest
from benchmark.experiments import cifar, imagenet, quickstart
from benchmark.experiments.hypothesis import HYPOTHESIS_CIFAR, HYPOTHESIS_DIGITS
from benchmark.experiments.momentum import MOMENTUM_CIFAR, MOMENTUM_DIGITS
from benchmark.specs import Experiment

EXPERIMENTS: dict[str, Experiment] = {
    e.name: e
    for e in (
        cifar.EXPERIMENT,
        imagenet.EXPERIMENT,
        quickstart.EXPERIMENT,
        HYPOTHESIS_DIGITS,
        HYPOTHESIS_CIFAR,
        MOMENTUM_DIGITS,
        MOMENTUM_CIFAR,
    )
}


def get_experiment(name: str) -> Experiment:
    """The experiment of this name.

    Raises:
        UserError: unknown name; the closest names are given.
    """
    if name not in EXPERIMENTS:
        raise UserError(f"unknown experiment {name!r}; {closest(name, EXPERIMENTS)}")
    return EXPERIMENTS[name]
