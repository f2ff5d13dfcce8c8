"""How much momentum does a network want? Heavy ball's networks over beta, beside what beta does for the method.

    python -m benchmark run momentum-digits                                          (make reproduce-momentum)
    python -m benchmark run momentum-cifar --data-dir images.tar.gz

Within a family and depth only beta changes, which is one number; the learning rate is not tuned for each.
Families, recipe and data are those of ``hypothesis``. beta = 0 is gradient descent. Theory predicts the beta that
ends nearest to the minimum after so many layers; with more of them it tends to that of ``hypothesis``.
"""

from benchmark.experiments.hypothesis import CIFAR, DIGITS, FAMILIES, FIXED, SEEDS
from benchmark.specs import DataSpec, Experiment, NetworkSpec, Row

BETAS = (-0.4, -0.2, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
FEEDFORWARD_DEPTHS = dict.fromkeys(("shared", "injected", "free"), (5, 10, 20))
DEPTHS = {**FEEDFORWARD_DEPTHS, "convolutional": (20,)}


def _rows(depths: dict[str, tuple[int, ...]]) -> tuple[Row, ...]:
    return tuple(
        Row(
            f"{family}-{depth}-{beta:g}",
            f"beta = {beta:g}, {depth} layers, {family}",
            NetworkSpec(
                FAMILIES[family][0],
                {**FAMILIES[family][1], "method": "heavy_ball", "depth": depth, **FIXED, "beta": beta},
            ),
            baseline=f"{family}-{depth}-0" if beta else None,
        )
        for family in depths
        for depth in depths[family]
        for beta in BETAS
    )


MOMENTUM_DIGITS = Experiment(
    name="momentum-digits",
    title="How much momentum does a network want? scikit-learn's digits",
    rows=_rows(DEPTHS),
    datasets={"digits": DataSpec("digits")},
    profiles=DIGITS,
    default_profile="short",
    seeds=SEEDS,
    report="momentum",
)

MOMENTUM_CIFAR = Experiment(
    name="momentum-cifar",
    title="How much momentum does a network want? CIFAR-10 at 8 x 8 pixels",
    rows=_rows(FEEDFORWARD_DEPTHS),
    datasets={"cifar10": DataSpec("cifar10")},
    profiles=CIFAR,
    default_profile="short",
    seeds=SEEDS,
    report="momentum",
)
