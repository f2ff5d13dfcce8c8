"""Psi' = Phi, by autograd and by numerical integration; slopes lie in their bounds."""

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import spence

from benchmark.errors import UserError
from benchmark.theory.activations import ACTIVATIONS, check_monotone, get_activation, softplus_integral

KINKS = [-3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0]
POINTS = torch.tensor([-30.0, -7.3, -2.1, -0.7, -0.01, 0.01, 0.3, 0.9, 1.7, 5.2, 30.0], dtype=torch.float64)

each = pytest.mark.parametrize("name", ACTIVATIONS)


def test_there_are_at_least_ten():
    assert len(ACTIVATIONS) >= 10


@each
def test_autograd_of_psi_is_phi(name):
    activation = ACTIVATIONS[name]
    x = POINTS.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(activation.psi(x).sum(), x)
    torch.testing.assert_close(gradient, activation.phi(POINTS), rtol=1e-12, atol=1e-13)


@each
def test_integral_of_phi_is_the_difference_of_psi(name):
    activation = ACTIVATIONS[name]
    for low, high in ((-4.0, -0.2), (-0.9, 0.7), (0.1, 6.0)):
        integral, _ = quad(
            lambda t: float(activation.phi(torch.tensor(t, dtype=torch.float64))),
            low,
            high,
            points=[kink for kink in KINKS if low < kink < high],
            epsabs=1e-13,
            epsrel=1e-13,
        )
        ends = activation.psi(torch.tensor([low, high], dtype=torch.float64))
        assert float(ends[1] - ends[0]) == pytest.approx(integral, rel=1e-11, abs=1e-12)


@each
def test_slopes_lie_within_their_bounds_and_come_close_to_them(name):
    activation = ACTIVATIONS[name]
    x = torch.linspace(-40, 40, 160_001, dtype=torch.float64)
    slopes = activation.phi(x).diff() / x.diff()
    assert activation.min_slope - 1e-9 <= slopes.min() <= activation.min_slope + 1e-3
    assert activation.max_slope - 1e-2 <= slopes.max() <= activation.max_slope + 1e-9
    check_monotone(activation.phi)


def test_softplus_integral_is_the_dilogarithm():
    expected = -spence(1 + np.exp(POINTS.numpy()))
    np.testing.assert_allclose(softplus_integral(POINTS).numpy(), expected, rtol=1e-13, atol=1e-15)


def test_what_is_not_monotone_is_refused():
    with pytest.raises(UserError, match="gelu is not monotone"):
        get_activation("gelu")
    with pytest.raises(UserError, match="not monotone: it decreases at"):
        check_monotone(torch.sin)
    with pytest.raises(UserError, match="not finite at"):
        check_monotone(torch.log)
    with pytest.raises(UserError, match="unknown activation 'tahn'; did you mean tanh"):
        get_activation("tahn")
