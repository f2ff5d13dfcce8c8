"""f, its gradient and its constants; a layer of the network is a gradient step on f."""

import pytest
import torch

from benchmark.errors import UserError
from benchmark.theory.activations import ACTIVATIONS, Activation, get_activation
from benchmark.theory.objective import Objective, random_weight

SIZE = 7
SMOOTH = ("sigmoid", "tanh", "softplus", "softsign", "erf", "arctan", "algebraic", "normal_cdf", "identity")


def objective(name="tanh", mu=0.2):
    return Objective(random_weight(SIZE, mu, seed=3), get_activation(name))


def points(count=5, seed=0):
    return 2 * torch.randn(count, SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_gradient_is_that_of_the_value(name):
    f, z = objective(name), points().requires_grad_()
    (expected,) = torch.autograd.grad(f.value(z).sum(), z)
    torch.testing.assert_close(f.gradient(z), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_layer_is_a_gradient_step(name):
    f, x = objective(name), points()
    z = f.to_z(x)
    torch.testing.assert_close(f.to_z(f.layer(x)), z - f.gradient(z), rtol=0, atol=1e-12)


def test_maps_are_inverse_and_the_root_is_a_root():
    f, x = objective(), points()
    torch.testing.assert_close(f.to_x(f.to_z(x)), x, rtol=0, atol=1e-10)
    torch.testing.assert_close(f.root @ f.root, f.weight, rtol=0, atol=1e-13)
    assert float(f.eigenvalues[-1]) == pytest.approx(0.8)


@pytest.mark.parametrize("name", SMOOTH)
def test_curvature_lies_between_mu_and_l(name):
    """Of the Hessian by autograd; at 0, where most slopes are largest, mu is reached."""
    f = objective(name, mu=0.3)
    for z in (*points(20), torch.zeros(SIZE, dtype=torch.float64)):
        curvature = torch.linalg.eigvalsh(torch.autograd.functional.jacobian(f.gradient, z))
        assert f.strong_convexity - 1e-10 <= curvature[0]
        assert curvature[-1] <= f.smoothness + 1e-10
    if name not in ("softplus",):
        assert float(curvature[0]) == pytest.approx(f.strong_convexity)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_minimizer(name):
    f = objective(name)
    z = f.minimizer()
    assert f.gradient(z).norm() < 1e-13
    assert (f.value(points(50)) >= f.value(z)).all()
    torch.testing.assert_close(f.layer(f.to_x(z)), f.to_x(z), rtol=0, atol=1e-11)


def test_a_large_weight_has_no_rate():
    f = Objective(2 * torch.eye(3), get_activation("tanh"))
    with pytest.raises(UserError, match=r"\|W\| = 2 times the activation's largest slope, 1, must stay below 1"):
        _ = f.strong_convexity
    assert Objective(2 * torch.eye(3), get_activation("sigmoid")).strong_convexity == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (torch.ones(2, 3), r"of shape \(2, 3\); it must be square"),
        (
            torch.tensor([[1.0, 0.5], [0.4, 1.0]]),
            "not symmetric: entries differ from their mirror images by up to 0.1",
        ),
        (torch.diag(torch.tensor([1.0, -0.5])), "not positive definite: its smallest eigenvalue is -0.5"),
        (torch.zeros(2, 2), "not positive definite"),
        (torch.full((2, 2), torch.nan), "not finite"),
    ],
)
def test_bad_weights(weight, message):
    with pytest.raises(UserError, match=message):
        Objective(weight, get_activation("tanh"))


@pytest.mark.parametrize(("mu", "smallest"), [(0.0, 0.01), (1.0, 0.01), (0.5, 0.6), (0.5, 0.0)])
def test_bad_spectra(mu, smallest):
    with pytest.raises(UserError, match="must lie above 0 and below 1"):
        random_weight(4, mu, 0, smallest)


def test_an_activation_that_is_not_monotone():
    with pytest.raises(UserError, match="not monotone: it decreases at"):
        Objective(torch.eye(2) / 2, Activation(torch.sin, lambda x: -torch.cos(x), 1.0))
