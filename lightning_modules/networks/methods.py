"""Coefficients of first-order methods, as plain floats, each with its source and its proven rate.

f is L-smooth and mu-strongly convex, kappa = L / mu, R = |x_0 - x*|, v = -grad f; layer k of n is iteration k.
Numbering follows ``docs/structures.md``: x_0 is a stage's input and x_n its output.
"""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

from lightning_modules.networks.options import is_finite, plain

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


class MomentumTable(NamedTuple):
    """A method with one sequence of history; entry k of each list is layer k's.

        y_k     = x_k + lookahead_k (x_k - x_{k-1})
        x_{k+1} = x_k + momentum_k (x_k - x_{k-1}) + step_k v(y_k),          x_{-1} = x_0

    The result is x_n + output (x_n - x_{n-1}).
    """

    step: list[float]
    momentum: list[float]
    lookahead: list[float]
    output: float = 0.0


def strongly_convex_nesterov(steps: int, mu: float, smoothness: float) -> MomentumTable:
    """Constant momentum (1 - 1/sqrt(kappa)) / (1 + 1/sqrt(kappa)).

    Source: Nesterov (2004), section 2.2.1, constant step scheme III. Rate:
    f(x_k) - f* <= (1 - 1/sqrt(kappa))^k (f(x_0) - f* + mu R^2 / 2).

    Raises:
        ValueError: not 0 < mu <= smoothness.
    """
    root = math.sqrt(_inverse_condition(mu, smoothness))
    beta = (1 - root) / (1 + root)
    return MomentumTable([1 / smoothness] * steps, [beta] * steps, [beta] * steps)


def triple_momentum(steps: int, mu: float, smoothness: float) -> MomentumTable:
    """Three momenta and a longer step, with rho = 1 - 1/sqrt(kappa).

    Source: Van Scoy, Freeman and Lynch (2018), IEEE Control Systems Letters 2(1). Rate: |x_k - x*| = O(rho^k).

    Raises:
        ValueError: not 0 < mu <= smoothness.
    """
    rho = 1 - math.sqrt(_inverse_condition(mu, smoothness))
    step, momentum = (1 + rho) / smoothness, rho**2 / (2 - rho)
    lookahead, output = rho**2 / ((1 + rho) * (2 - rho)), rho**2 / (1 - rho**2)
    return MomentumTable([step] * steps, [momentum] * steps, [lookahead] * steps, output)


def chebyshev(steps: int, mu: float, smoothness: float) -> MomentumTable:
    """Chebyshev's semi-iteration, the best method for quadratics of n steps known in advance.

    omega_1 = 1, omega_2 = 2 / (2 - sigma^2), omega_{k+1} = 1 / (1 - sigma^2 omega_k / 4) with
    sigma = (L - mu) / (L + mu); step_k = 2 omega_{k+1} / (L + mu), momentum_k = omega_{k+1} - 1.

    Source: Golub and Varga (1961). Rate, on quadratics: |x_k - x*| <= 2 r^k / (1 + r^(2k)) R with
    r = (sqrt(kappa) - 1) / (sqrt(kappa) + 1); none is proven for other f.

    Raises:
        ValueError: not 0 < mu <= smoothness.
    """
    _inverse_condition(mu, smoothness)
    square = ((smoothness - mu) / (smoothness + mu)) ** 2
    omegas = [1.0, 2 / (2 - square)]
    while len(omegas) < steps:
        omegas.append(1 / (1 - square * omegas[-1] / 4))
    omegas = omegas[:steps]
    return MomentumTable(
        [2 * omega / (smoothness + mu) for omega in omegas], [omega - 1 for omega in omegas], [0.0] * steps
    )


def optimized_gradient(steps: int) -> tuple[list[float], list[float]]:
    """beta_k = (theta_k - 1) / theta_{k+1} and gamma_k = theta_k / theta_{k+1}, k = 0, ..., steps - 1.

    theta_0 = 1, theta_{k+1} = (1 + sqrt(1 + 4 theta_k^2)) / 2, and 8 in place of 4 for the last:

        w_{k+1} = x_k + v(x_k) / L;  x_{k+1} = w_{k+1} + beta_k (w_{k+1} - w_k) + gamma_k (w_{k+1} - x_k)

    Source: Kim and Fessler (2016), algorithm OGM1. Rate: f(x_n) - f* <= L R^2 / (2 theta_n^2) <= L R^2 / (n + 1)^2,
    half of Nesterov's bound, and the best possible for n first-order steps.
    """
    thetas = [1.0]
    for k in range(steps):
        factor = 8 if k == steps - 1 else 4
        thetas.append((1 + math.sqrt(1 + factor * thetas[-1] ** 2)) / 2)
    pairs = list(itertools.pairwise(thetas))
    return [(now - 1) / after for now, after in pairs], [now / after for now, after in pairs]


def check_step_table(table: Sequence[Sequence[float]], steps: int) -> list[list[float]]:
    """Rows 0, ..., steps - 1 of a lower-triangular step table, without what stands above the diagonal.

    ``table[k][j]`` = h_{k+1}^j of x_{k+1} = x_k + sum_{j<=k} h_{k+1}^j v_j.
    Rows may be full or end at the diagonal.

    Raises:
        ValueError: a text, fewer rows than steps, a row too short, an entry above the diagonal, or one that is no
            finite float32 number.
    """
    if isinstance(table, str):
        raise ValueError(
            f"the step table is {table!r}; give rows of numbers (the command line reads them from a file)"
        )
    table = plain(table)
    if len(table) < steps:
        raise ValueError(f"the step table has {len(table)} rows for {steps} steps; it needs one for each")
    rows = []
    for k, row in enumerate(table):
        if len(row) <= k:
            raise ValueError(f"row {k} of the step table has {len(row)} entries; it needs at least {k + 1}")
        for j, entry in enumerate(row):
            if not is_finite(entry):
                raise ValueError(
                    f"entry {entry} in row {k}, column {j} of the step table is not a finite float32 number"
                )
            if j > k and entry != 0:
                raise ValueError(
                    f"the step table is not lower triangular: row {k} has {entry} in column {j}, but layer {k} "
                    f"knows only gradients 0 to {k}"
                )
        rows.append([float(entry) for entry in row[: k + 1]])
    return rows[:steps]


def check_longest(table: Sequence[Sequence[float]], steps: int) -> None:
    """Raises:
    ValueError: the table has more rows than the longest stage has ``steps``, so that some would have no effect.
    """
    if len(table) > steps:
        raise ValueError(
            f"the step table has {len(table)} rows, and no stage has more than {steps} layers; leave out the others"
        )


def _inverse_condition(mu: float, smoothness: float) -> float:
    """mu / L.

    Raises:
        ValueError: not 0 < mu <= smoothness, or not finite.
    """
    if not (0 < mu <= smoothness and math.isfinite(smoothness)):
        raise ValueError(f"mu must be in (0, smoothness], got mu = {mu} and smoothness = {smoothness}")
    return mu / smoothness
