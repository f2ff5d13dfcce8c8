"""Coefficients against their defining equations."""

import itertools
import math

import pytest

from lightning_modules.networks.methods import (
    chebyshev,
    heavy_ball_beta,
    multi_step_table,
    nesterov_betas,
    nesterov_thetas,
    optimized_gradient,
)


def test_thetas_solve_their_recursion():
    thetas = nesterov_thetas(30)
    assert thetas[0] == 1
    for previous, theta in itertools.pairwise(thetas):
        assert (1 - theta) / theta**2 == pytest.approx(1 / previous**2, rel=1e-12)


def test_betas_by_hand():
    golden = (math.sqrt(5) - 1) / 2  # theta_1
    theta_2 = nesterov_thetas(2)[2]
    assert nesterov_betas(2) == pytest.approx([0, 0, theta_2 * (1 - golden) / golden], abs=1e-15)
    assert nesterov_betas(2)[2] == pytest.approx(0.2817, abs=1e-4)


def test_table_equals_its_closed_form():
    betas = nesterov_betas(12)
    table = multi_step_table(betas)
    assert [len(row) for row in table] == list(range(1, 13))
    for k, row in enumerate(table):
        for j, h in enumerate(row):
            assert h == pytest.approx((j == k) + math.prod(betas[j + 1 : k + 2]), abs=1e-14)


@pytest.mark.parametrize(("norm", "beta"), [(0.0, 0.0), (0.75, 0.25), (0.99, 0.81)])
def test_heavy_ball_beta(norm, beta):
    assert heavy_ball_beta(1 - norm) == pytest.approx(beta)


@pytest.mark.parametrize("mu", [0, -1, 1.5, math.nan])
def test_heavy_ball_beta_needs_strong_convexity(mu):
    with pytest.raises(ValueError, match=r"mu must be in \(0, 1\]"):
        heavy_ball_beta(mu)


def test_heavy_ball_beta_is_the_best_on_a_quadratic():
    """The spectral radius of x -> (1 - l) x + beta (x - x_-1) over l in [mu, 1] is least at the formula's beta."""
    import numpy as np

    mu = 0.05

    def radius(beta: float) -> float:
        eigenvalues = np.linspace(mu, 1, 50)
        return max(np.abs(np.roots([1, -(1 - e + beta), beta])).max() for e in eigenvalues)

    best = heavy_ball_beta(mu)
    assert radius(best) == pytest.approx(math.sqrt(best), abs=1e-6)
    assert radius(best) < min(radius(best - 0.02), radius(best + 0.02))


def test_chebyshev_iterates_are_chebyshev_polynomials():
    """On a quadratic, x_k - x* = T_k((L + mu - 2 a) / (L - mu)) / T_k((L + mu) / (L - mu)) (x_0 - x*)."""
    from numpy.polynomial.chebyshev import Chebyshev

    mu, smoothness, steps = 0.05, 1.3, 8
    table = chebyshev(steps, mu, smoothness)
    for a in (mu, 0.4, 0.9, smoothness):
        x = previous = 1.0
        for k in range(steps):
            x, previous = x + table.momentum[k] * (x - previous) - table.step[k] * a * x, x
        polynomial = Chebyshev.basis(steps)
        expected = polynomial((smoothness + mu - 2 * a) / (smoothness - mu))
        expected /= polynomial((smoothness + mu) / (smoothness - mu))
        assert x == pytest.approx(expected, abs=1e-13)


@pytest.mark.parametrize("steps", [1, 4, 20])
def test_optimized_gradient_reaches_its_bound_on_the_worst_function(steps):
    """On the Huber function of Kim and Fessler (2017, theorem 5) the bound L R^2 / (2 theta_n^2) is met exactly."""
    beta, gamma = optimized_gradient(steps)
    thetas = [1.0]
    for k in range(steps):
        thetas.append((1 + math.sqrt(1 + (8 if k == steps - 1 else 4) * thetas[-1] ** 2)) / 2)
    knee = 1 / thetas[-1] ** 2
    x, w = 1.0, 1.0
    for k in range(steps):
        w_new = x - max(-knee, min(knee, x))
        x, w = w_new + beta[k] * (w_new - w) + gamma[k] * (w_new - x), w_new
    value = x**2 / 2 if abs(x) < knee else knee * abs(x) - knee**2 / 2
    assert value == pytest.approx(1 / (2 * thetas[-1] ** 2), rel=1e-9)
