"""Does a faster algorithm give a better structure? The same small networks under every method, at several depths.

    python -m benchmark run hypothesis-digits                                      (make reproduce-hypothesis)
    python -m benchmark run hypothesis-cifar --data-dir images.tar.gz

Four families, the methods' coefficients fixed at theory's values for condition number 100: feedforward networks
with one W for all layers, which is theory's own setting and starts at mu = 0.01, L = 1 (``shared``); the same
with the image added in every layer, so that the minimum depends on it (``injected``); the first with a W for each
layer (``free``); and, on the digits, the convolutional residual networks of the CIFAR table. CIFAR's images are
averaged down to 8 x 8 pixels by the network.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from benchmark.specs import DataSpec, Experiment, NetworkSpec, RecipeSpec, Row

CONDITION_NUMBER = 100
MU = 1 / CONDITION_NUMBER
FIXED: dict[str, Any] = {"coefficients": "fixed"}
METHODS: dict[str, dict[str, Any]] = {
    "gradient_descent": {},
    "heavy_ball": {**FIXED, "beta": (1 - MU**0.5) ** 2},
    "nesterov": FIXED,
    "nesterov_strongly_convex": {**FIXED, "mu": MU},
    "optimized_gradient": FIXED,
    "triple_momentum": {**FIXED, "mu": MU},
    "chebyshev": {**FIXED, "mu": MU},
    "linearized_admm": {},
}
"""Each method with its coefficients at mu = 1 / CONDITION_NUMBER and L = 1."""

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "shared": ("feedforward", {"weight": "shared", "norm": 1 - MU}),
    "injected": ("feedforward", {"weight": "shared", "norm": 1 - MU, "image": "every_layer"}),
    "free": ("feedforward", {"weight": "free", "norm": 1 - MU}),
    "convolutional": ("cifar_resnet20", {}),
}
DEPTHS = (5, 10, 20, 40)
CONVOLUTIONAL_DEPTHS = (14, 20, 32)
SEEDS = (0, 1, 2, 3, 4)


def _rows(family: str, depths: Iterable[int]) -> tuple[Row, ...]:
    network, options = FAMILIES[family]
    return tuple(
        Row(
            f"{family}-{method}-{depth}",
            f"{method.replace('_', ' ')}, {depth} layers, {family}",
            NetworkSpec(network, {**options, "method": method, "depth": depth, **constants}),
            baseline=None if method == "gradient_descent" else f"{family}-gradient_descent-{depth}",
        )
        for depth in depths
        for method, constants in METHODS.items()
    )


def _profiles(recipe: RecipeSpec) -> dict[str, RecipeSpec]:
    return {"short": recipe, "smoke": replace(recipe, epochs=2, batch_size=32, limit_batches=2)}


FEEDFORWARD = tuple(row for family in ("shared", "injected", "free") for row in _rows(family, DEPTHS))

# Networks this small gain nothing from bf16. The rate is the largest of 0.01, 0.02, 0.05, 0.1 and 0.3 at which no
# loss blew up in trials with gradient descent, heavy ball, the optimized gradient method and triple momentum (seed
# 0, 297 digits held out); at 0.02 triple momentum's did.
RECIPE = RecipeSpec(
    epochs=30,
    batch_size=64,
    learning_rate=0.01,
    weight_decay=1e-4,
    schedule="one_cycle",
    precision="32-true",
    compile=False,  # on a GPU it would take longer than the training
)
DIGITS, CIFAR = _profiles(RECIPE), _profiles(replace(RECIPE, epochs=2, batch_size=128))

HYPOTHESIS_DIGITS = Experiment(
    name="hypothesis-digits",
    title="Does a faster algorithm give a better structure? scikit-learn's digits",
    rows=(*FEEDFORWARD, *_rows("convolutional", CONVOLUTIONAL_DEPTHS)),
    datasets={"digits": DataSpec("digits")},
    profiles=DIGITS,
    default_profile="short",
    seeds=SEEDS,
    report="hypothesis",
)

HYPOTHESIS_CIFAR = Experiment(
    name="hypothesis-cifar",
    title="Does a faster algorithm give a better structure? CIFAR-10 at 8 x 8 pixels",
    rows=FEEDFORWARD,
    datasets={"cifar10": DataSpec("cifar10")},
    profiles=CIFAR,
    default_profile="short",
    seeds=SEEDS,
    report="hypothesis",
)
