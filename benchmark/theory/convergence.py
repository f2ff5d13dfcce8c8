"""How fast the structures converge on f, layer by layer, beside what is proven.

Shapes: n neurons, K layers; distances are (K + 1,), of the results of networks of 0, ..., K layers.

A network of k layers with T(x) = Phi(W x) is k iterations of the method on f; distances are in z = U x, where f's
constants hold.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmark.theory.activations import get_activation
from benchmark.theory.objective import Objective, random_weight
from lightning_modules.networks.methods import heavy_ball_beta
from lightning_modules.networks.rules import create_rule, fixed_coefficients, step_table

SIZE = 30
CONDITION_NUMBERS = (10, 100, 1000)
LAYERS = 120
FLOOR = 1e-12
"""Distances below this share of the first are rounding."""

CLOSE = 1e-6
PROBLEMS = {"quadratic": "identity", "softplus": "softplus"}
"""Names of the objectives and their activations; with the identity, f is the quadratic z^T (I - W) z / 2."""


@dataclass(frozen=True)
class Problem:
    """An objective, a start, and the minimizer, for the bounds."""

    objective: Objective
    start: Tensor
    minimizer: Tensor

    @property
    def mu(self) -> float:
        return self.objective.strong_convexity

    @property
    def smoothness(self) -> float:
        return self.objective.smoothness

    @property
    def distance(self) -> float:
        """R = |z_0 - z*|."""
        return float((self.start - self.minimizer).norm())

    def gap(self, z: Tensor) -> float:
        """f(z) - f*."""
        return float(self.objective.value(z) - self.objective.value(self.minimizer))


@dataclass(frozen=True)
class Method:
    """A method with the options that theory gives it, and what is proven of it.

    ``bound(k, problem)`` bounds the ``quantity`` after k layers; ``factor(problem)`` is the proven asymptotic
    factor of the distance for one layer. Each holds on the kind of f that ``proven_on`` names.
    """

    title: str
    options: Callable[[Problem], dict[str, Any]]
    proven_on: str
    quantity: str = "distance"
    bound: Callable[[int, Problem], float] | None = None
    factor: Callable[[Problem], float] | None = None


def _nothing(problem: Problem) -> dict[str, Any]:
    return {}


def _constants(problem: Problem) -> dict[str, Any]:
    return {"mu": problem.mu, "smoothness": problem.smoothness}


def _root(problem: Problem) -> float:
    """1 / sqrt(kappa)."""
    return math.sqrt(problem.mu / problem.smoothness)


def _gradient_descent_factor(problem: Problem) -> float:
    """Of the unit step: 1 - mu, since L <= 1."""
    return 1 - problem.mu


def _nesterov_bound(k: int, problem: Problem) -> float:
    """2 L R^2 / (k + 1)^2 with the unit step's L = 1."""
    return 2 * problem.distance**2 / (k + 1) ** 2


def _strongly_convex_bound(k: int, problem: Problem) -> float:
    """(1 - 1/sqrt(kappa))^k (f(z_0) - f* + mu R^2 / 2)."""
    start = problem.gap(problem.start) + problem.mu * problem.distance**2 / 2
    return (1 - _root(problem)) ** k * start


def _optimized_bound(k: int, problem: Problem) -> float:
    """L R^2 / (2 theta_k^2), with theta's last step of its own."""
    theta = 1.0
    for i in range(k):
        theta = (1 + math.sqrt(1 + (8 if i == k - 1 else 4) * theta**2)) / 2
    return problem.smoothness * problem.distance**2 / (2 * theta**2)


def _chebyshev_bound(k: int, problem: Problem) -> float:
    """2 r^k / (1 + r^(2k)) R, r = (sqrt(kappa) - 1) / (sqrt(kappa) + 1)."""
    r = (1 - _root(problem)) / (1 + _root(problem))
    return 2 * r**k / (1 + r ** (2 * k)) * problem.distance


METHODS: dict[str, Method] = {
    "gradient_descent": Method(
        "gradient descent",
        _nothing,
        "strongly convex",
        bound=lambda k, problem: _gradient_descent_factor(problem) ** k * problem.distance,
        factor=_gradient_descent_factor,
    ),
    "heavy_ball": Method(
        "heavy ball",
        lambda problem: {"beta": heavy_ball_beta(problem.mu)},
        "quadratic",
        factor=lambda problem: 1 - math.sqrt(problem.mu),
    ),
    "nesterov": Method("Nesterov", _nothing, "convex", "value", bound=_nesterov_bound),
    "nesterov_strongly_convex": Method(
        "Nesterov, strongly convex",
        _constants,
        "strongly convex",
        "value",
        bound=_strongly_convex_bound,
        factor=lambda problem: math.sqrt(1 - _root(problem)),
    ),
    "optimized_gradient": Method(
        "optimized gradient",
        lambda problem: {"smoothness": problem.smoothness},
        "convex",
        "value",
        bound=_optimized_bound,
    ),
    "triple_momentum": Method(
        "triple momentum", _constants, "strongly convex", factor=lambda problem: 1 - _root(problem)
    ),
    "chebyshev": Method(
        "Chebyshev",
        _constants,
        "quadratic",
        bound=_chebyshev_bound,
        factor=lambda problem: (1 - _root(problem)) / (1 + _root(problem)),
    ),
    "linearized_admm": Method("linearised ADMM", _nothing, "nothing"),
}


def step_tables(layers: int) -> dict[str, list[list[float]]]:
    """By title, the table of steps of each method that has one, with its default constants."""
    return {
        method.title: step_table(name, layers).tolist()
        for name, method in METHODS.items()
        if name != "linearized_admm"
    }


def create_problem(kind: str, condition_number: float) -> Problem:
    """A random W with |W| = 1 - 1 / kappa, and a random start at distance 1 from the minimizer.

    Args:
        kind: a name of ``PROBLEMS``.
        condition_number: kappa > 1; mu is 1 / kappa and L at most 1 (of the quadratic 0.999).
    """
    weight = random_weight(SIZE, 1 / condition_number, seed=0, smallest=1e-3)
    objective = Objective(weight, get_activation(PROBLEMS[kind]))
    minimizer = objective.minimizer()
    generator = torch.Generator().manual_seed(1)
    direction = torch.randn(SIZE, dtype=torch.float64, generator=generator)
    return Problem(objective, minimizer + direction / direction.norm(), minimizer)


def results(method: str, problem: Problem, layers: int) -> Tensor:
    """z after networks of 0, ..., ``layers`` layers, (layers + 1, n)."""
    objective = problem.objective
    x = objective.to_x(problem.start)
    options = {**METHODS[method].options(problem), **fixed_coefficients(method)}
    with torch.no_grad():
        ends = [x] + [
            create_rule(method, k, "fixed_point", **options)(x, [objective.layer] * k) for k in range(1, layers + 1)
        ]
    return objective.to_z(torch.stack(ends))


def measured_factor(distances: np.ndarray) -> float | None:
    """Geometric mean of the distance's factor over the later half of the layers before rounding takes over."""
    last = int(np.argmax(distances < FLOOR * distances[0])) or len(distances)
    first = last // 2
    if last - first < 2 or distances[last - 1] <= 0:
        return None
    return float((distances[last - 1] / distances[first]) ** (1 / (last - 1 - first)))


def measure(
    kinds: Iterable[str] = PROBLEMS,
    condition_numbers: Iterable[float] = CONDITION_NUMBERS,
    layers: int = LAYERS,
) -> list[dict[str, Any]]:
    """A row for each objective, condition number and method: distances, factors, and how close a bound comes.

    ``bound used`` is the largest ratio of what was measured to what is proven, over all layers: at most 1 where
    something is proven. ``bound used at the end`` is that of the last layer before rounding takes over: it stays
    away from 0 where the proven rate is the true one.
    """
    rows = []
    for kind in kinds:
        for condition_number in condition_numbers:
            problem = create_problem(kind, condition_number)
            for name, method in METHODS.items():
                ends = results(name, problem, layers)
                distances = (ends - problem.minimizer).norm(dim=-1).numpy()
                close = np.flatnonzero(distances <= CLOSE * distances[0])
                proven = _is_proven(method, kind)
                used = _bound_used(method, problem, ends, distances) if proven and method.bound else None
                rows.append(
                    {
                        "objective": kind,
                        "condition number": condition_number,
                        "method": name,
                        "layers to 1e-6": int(close[0]) if len(close) else None,
                        "measured factor": measured_factor(distances),
                        "proven factor": method.factor(problem) if proven and method.factor else None,
                        "bound used": used.max() if used is not None else None,
                        "bound used at the end": used[-1] if used is not None else None,
                        "distances": distances.tolist(),
                    }
                )
    return rows


def _is_proven(method: Method, kind: str) -> bool:
    """Whether the method's rate is proven for this kind of objective; all are strongly convex."""
    return method.proven_on in ("convex", "strongly convex") or method.proven_on == kind


def _bound_used(method: Method, problem: Problem, ends: Tensor, distances: np.ndarray) -> np.ndarray:
    """For each layer at which the bound is above rounding, what was measured over what is proven."""
    bounds = np.array([method.bound(k, problem) for k in range(len(ends))])
    measured = distances if method.quantity == "distance" else np.array([problem.gap(z) for z in ends])
    trusted = bounds > FLOOR
    return measured[trusted] / bounds[trusted]
