"""Limits and distances on quadratics, against the rules themselves and against polynomials written out."""

import math

import numpy as np
import pytest
import torch

from benchmark.experiments.hypothesis import METHODS, MU
from benchmark.reports import expected_of_methods
from benchmark.theory.speed import LIMITS, distances, heavy_ball_limit
from lightning_modules.networks import create_network
from lightning_modules.networks.feedforward import start_eigenvalues
from lightning_modules.networks.rules import create_rule

EIGENVALUES = start_eigenvalues(1 - MU).double()
PERIOD = 32
"""Layers in which the slowest part of Nesterov's method surely reaches its amplitude."""


def amplitude(method, layers):
    """Of the slowest direction around so many layers, which is that of the largest eigenvalue."""
    counts = range(layers, layers + PERIOD)
    with torch.no_grad():
        rules = [create_rule(method, k, "fixed_point", **METHODS[method]) for k in counts]
        return max(float(rule(EIGENVALUES, [lambda z: EIGENVALUES * z] * rule.steps).abs().max()) for rule in rules)


@pytest.mark.parametrize("method", METHODS)
def test_the_limit_is_that_of_the_rule(method):
    """Layers 150 to 300; powers of the number of layers beside the exponential are taken out."""
    power = {"heavy_ball": 1, "nesterov_strongly_convex": 1, "nesterov": -1.5, "optimized_gradient": -1.5}
    growth = 2 ** power.get(method, 0)
    factor = (amplitude(method, 300) / amplitude(method, 150) / growth) ** (1 / 150)
    assert factor == pytest.approx(LIMITS[method](MU), abs=1e-3)


@pytest.mark.parametrize("beta", [-0.4, 0.0, 0.5, 0.81, 0.9])
def test_the_limit_of_any_heavy_ball_is_the_spectral_radius_of_its_steps(beta):
    steps = [np.array([[w + beta, -beta], [1, 0]]) for w in EIGENVALUES.tolist()]
    radius = max(np.abs(np.linalg.eigvals(step)).max() for step in steps)
    assert heavy_ball_limit(beta, EIGENVALUES) == pytest.approx(radius, abs=1e-7)


def test_distances_by_hand():
    """Heavy ball's polynomials of three layers, for two eigenvalues."""
    w, beta = np.array([0.3, 0.9]), 0.25
    polynomials = [np.ones(2), w]
    for _ in range(2):
        polynomials.append(w * polynomials[-1] + beta * (polynomials[-1] - polynomials[-2]))
    expected = [math.sqrt((p**2).mean()) for p in polynomials]
    found = distances("heavy_ball", {"coefficients": "fixed", "beta": beta}, torch.tensor(w), 3)
    assert found == pytest.approx(expected, abs=1e-14)


def test_the_networks_start_with_these_eigenvalues():
    weight = create_network("feedforward", depth=1, norm=1 - MU).weights[0].weight.detach()
    found = torch.linalg.eigvalsh(((weight + weight.T) / 2).double())
    torch.testing.assert_close(found, start_eigenvalues(1 - MU).double(), atol=1e-5, rtol=0)


def test_speeds_of_all_methods():
    speeds = expected_of_methods()
    assert list(speeds) == list(METHODS)
    assert speeds["heavy_ball"].factor == speeds["triple_momentum"].factor == pytest.approx(0.9)
    assert all(len(speed.distances) == 41 and speed.distances[0] == 1 for speed in speeds.values())
