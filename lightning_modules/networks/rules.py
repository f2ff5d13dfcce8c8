"""Update rules by name. ``create_rule("heavy_ball", steps=9, reading="residual")``."""

import inspect
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from lightning_modules.networks import methods
from lightning_modules.networks.accelerated import LinearizedADMM, MomentumMethod, OptimizedGradient, StepTable
from lightning_modules.networks.options import accept_options, choice
from lightning_modules.networks.updates import (
    GradientDescent,
    HeavyBall,
    NesterovLookahead,
    NesterovMultiStep,
    TwoCoefficient,
    UpdateRule,
)

METHODS: dict[str, Callable[..., UpdateRule]] = {
    "gradient_descent": GradientDescent,
    "heavy_ball": HeavyBall,
    "two_coefficient": TwoCoefficient,
    "nesterov": NesterovLookahead,
    "nesterov_multi_step": NesterovMultiStep,
    "nesterov_strongly_convex": partial(MomentumMethod, table=methods.strongly_convex_nesterov),
    "optimized_gradient": OptimizedGradient,
    "triple_momentum": partial(MomentumMethod, table=methods.triple_momentum),
    "chebyshev": partial(MomentumMethod, table=methods.chebyshev),
    "linearized_admm": LinearizedADMM,
    "step_table": StepTable,
}

ROUNDING = 1e-5
"""Of x_0's factor in a point, whose coefficients may be float32."""


def create_rule(method: str, steps: int, reading: str = "residual", **options: object) -> UpdateRule:
    """The rule of this name for ``steps`` layers.

    Raises:
        ValueError: unknown method, reading or option value (the valid ones are named).
    """
    rule = METHODS[choice("method", method, tuple(METHODS))]
    hidden = {"steps", "reading"} | (rule.keywords.keys() if isinstance(rule, partial) else set())
    accept_options(method, rule, options, hidden)
    return rule(steps, reading, **options)


def fixed_coefficients(method: str) -> dict[str, str]:
    """The option that keeps a method at theory's coefficients; none if it has nothing to learn.

    Raises:
        ValueError: unknown method.
    """
    parameters = inspect.signature(METHODS[choice("method", method, tuple(METHODS))]).parameters
    return {"coefficients": "fixed"} if "coefficients" in parameters else {}


def step_table(method: str, steps: int, **options: object) -> Tensor:
    """The method as one lower-triangular table of steps, (steps, steps), float64, with theory's coefficients.

    With p_k the point at which layer k's gradient is taken, and p_n the result, row k is h_{k+1} in
    p_{k+1} = p_k + sum_{j<=k} h_{k+1}^j v_j. It is read off a run whose j-th gradient is the j-th unit vector.

    Raises:
        ValueError: as ``create_rule`` and ``table_of``.
    """
    return table_of(create_rule(method, steps, "residual", **{**fixed_coefficients(method), **options}))


def table_of(rule: UpdateRule) -> Tensor:
    """The table of steps (``step_table``) of a rule with the coefficients that it has now, (steps, steps), float64.

    Raises:
        ValueError: no table can hold the rule: it takes two gradients in a layer, or its points are not x_0 plus
            steps (as with x_{-1} = 0, or where two coefficients do not keep x_0's factor at 1).
    """
    if isinstance(rule, LinearizedADMM):
        raise ValueError("linearized_admm takes two gradients in a layer, so one step table cannot hold it")
    points: list[Tensor] = []

    def transform(point: Tensor) -> Tensor:
        points.append(point)
        unit = units[len(points) - 1]
        return point + unit if rule.reading == "fixed_point" else unit

    *units, start = torch.eye(rule.steps + 1, dtype=torch.float64)
    with torch.no_grad():
        result = rule(start, [transform] * rule.steps)
    steps = torch.stack([*points, result])
    if not torch.allclose(steps[:, -1], start[-1], rtol=0, atol=ROUNDING):
        raise ValueError("points are not x_0 plus steps along gradients, so no step table can hold them")
    return steps[:, :-1].diff(dim=0)
