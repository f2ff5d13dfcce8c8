"""Coefficients of first-order methods, as plain floats.

f is L-smooth with L <= 1 and mu-strongly convex, the step is 1, and layer k of n is iteration k. Numbering
follows ``docs/structures.md``: x_0 is a stage's input and x_n its output.
"""

import itertools
import math
from collections.abc import Sequence

HEAVY_BALL_BETA = 0.5
"""Default momentum of heavy-ball networks. It is ``heavy_ball_beta(mu)`` at mu = 0.0858, i.e. condition number
11.7. A convolutional network has no known mu: the value is ours, not the paper's, and learned by default."""


def heavy_ball_beta(mu: float) -> float:
    """Momentum of the heavy-ball method with unit step that is best on quadratics: (1 - sqrt(mu))^2.

    Source: Polyak (1964), with the step fixed to 1 and mu = 1 - ||W|| (repo's derivation).

    Raises:
        ValueError: mu is not in (0, 1].
    """
    if not 0 < mu <= 1:
        raise ValueError(f"mu must be in (0, 1], got {mu}: the best momentum needs a strongly convex f with L <= 1")
    return (1 - math.sqrt(mu)) ** 2


def nesterov_thetas(steps: int) -> list[float]:
    """theta_0, ..., theta_steps with theta_0 = 1 and (1 - theta_k) / theta_k^2 = 1 / theta_{k-1}^2."""
    thetas = [1.0]
    for _ in range(steps):
        square = thetas[-1] ** 2
        thetas.append((math.sqrt(square * square + 4 * square) - square) / 2)
    return thetas


def nesterov_betas(steps: int) -> list[float]:
    """beta_0, ..., beta_steps: beta_k = theta_k (1 - theta_{k-1}) / theta_{k-1}, beta_0 = 0 (so beta_1 = 0 too).

    Source: Nesterov (1983) in the form of Li et al. (2018).
    """
    thetas = nesterov_thetas(steps)
    pairs = itertools.pairwise(thetas)
    return [0.0] + [current * (1 - previous) / previous for previous, current in pairs]


def multi_step_table(betas: Sequence[float]) -> list[list[float]]:
    """Lower-triangular step table of Nesterov's method written in one sequence.

    ``table[k][j]`` = h_{k+1}^j of x_{k+1} = x_k + sum_{j<=k} h_{k+1}^j v_j, v_j = -grad f(x_j), for
    k = 0, ..., len(betas) - 2:

        h_{k+1}^k = 1 + beta_{k+1};  h_{k+1}^{k-1} = beta_{k+1} (h_k^{k-1} - 1);  h_{k+1}^j = beta_{k+1} h_k^j else.

    Closed form: h_{k+1}^j = [j = k] + prod_{i=j+1}^{k+1} beta_i.
    """
    table: list[list[float]] = []
    for beta in betas[1:]:
        row = [beta * h for h in table[-1]] if table else []
        if row:
            row[-1] -= beta
        table.append([*row, 1 + beta])
    return table
