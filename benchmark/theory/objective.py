"""The function that a feedforward network with one shared weight descends (docs/theory.md, section 1).

Shapes: n neurons; W is (n, n), x and z are (..., n), one point in each row; everything is float64.

A layer is x_{k+1} = Phi(W x_k) with W symmetric positive definite. With U = W^(1/2) and z = U x,

    f(z) = 1/2 |z|^2 - sum_i Psi((U z)_i),    grad f(z) = z - U Phi(U z),

and the layer is z_{k+1} = z_k - grad f(z_k): gradient descent with unit step.
"""

import torch
from torch import Tensor

from benchmark.errors import UserError
from benchmark.theory.activations import Activation, check_monotone

SYMMETRIC, POSITIVE = 1e-10, 1e-12
"""Relative to the largest eigenvalue: how far from symmetric, and how close to singular, a W may be."""

TOLERANCE, MOST_STEPS = 1e-15, 1_000_000
"""Of the search for the minimizer: mu |z - z*| relative to |z|, which the gradient bounds, and when to give up."""


class Objective:
    """f of a weight matrix and an activation.

    Args:
        weight: W, (n, n), symmetric positive definite.
        activation: Phi and Psi.

    Raises:
        UserError: W is not square, finite, symmetric or positive definite, or Phi is not monotone; says which and
            by how much.
    """

    def __init__(self, weight: Tensor, activation: Activation) -> None:
        check_monotone(activation.phi)
        self.weight, self.activation = _check(weight), activation
        self.eigenvalues, vectors = torch.linalg.eigh(self.weight)
        self.root = vectors * self.eigenvalues.sqrt() @ vectors.T
        self.inverse_root = vectors * self.eigenvalues.rsqrt() @ vectors.T

    def value(self, z: Tensor) -> Tensor:
        """f(z), (...)."""
        return 0.5 * (z**2).sum(-1) - self.activation.psi(z @ self.root).sum(-1)

    def gradient(self, z: Tensor) -> Tensor:
        """grad f(z), (..., n)."""
        return z - self.activation.phi(z @ self.root) @ self.root

    def layer(self, x: Tensor) -> Tensor:
        """Phi(W x), (..., n): one layer of the network."""
        return self.activation.phi(x @ self.weight)

    def to_z(self, x: Tensor) -> Tensor:
        """z = U x."""
        return x @ self.root

    def to_x(self, z: Tensor) -> Tensor:
        """x = U^-1 z."""
        return z @ self.inverse_root

    @property
    def smoothness(self) -> float:
        """L = 1 - min Phi' lambda_min(W), since the Hessian is I - U diag(Phi') U; at most 1."""
        return 1 - self.activation.min_slope * float(self.eigenvalues[0])

    @property
    def strong_convexity(self) -> float:
        """mu = 1 - max Phi' |W|.

        Raises:
            UserError: |W| is too large, so that f need not be convex.
        """
        norm = float(self.eigenvalues[-1])
        mu = 1 - self.activation.max_slope * norm
        if mu <= 0:
            raise UserError(
                f"|W| = {norm:.4g} times the activation's largest slope, {self.activation.max_slope:.4g}, must "
                "stay below 1 for f to be strongly convex; scale W down"
            )
        return mu

    def minimizer(self) -> Tensor:
        """z* with grad f(z*) = 0, (n,), by Newton's method from 0, damped until f decreases.

        Raises:
            UserError: f is not strongly convex.
            RuntimeError: no convergence in ``MOST_STEPS`` steps.
        """
        mu = self.strong_convexity
        z = torch.zeros(len(self.weight), dtype=torch.float64)
        for _ in range(MOST_STEPS):
            gradient = self.gradient(z)
            if gradient.norm() <= TOLERANCE * mu * max(1.0, float(z.norm())):
                return z
            step = torch.linalg.solve(torch.autograd.functional.jacobian(self.gradient, z), gradient)
            new = z - step
            if not self.gradient(new).norm() < gradient.norm():
                new = z - gradient / self.smoothness
                if not self.gradient(new).norm() < gradient.norm():
                    return z
            z = new
        raise RuntimeError("the minimizer was not found")


def random_weight(size: int, mu: float, seed: int, smallest: float = 0.01) -> Tensor:
    """W with eigenvalues from ``smallest`` to 1 - mu, both reached, in random directions, (size, size).

    Raises:
        UserError: these are not eigenvalues of a positive definite W with |W| < 1.
    """
    if not 0 < smallest <= 1 - mu < 1:
        raise UserError(
            f"eigenvalues from {smallest:g} to 1 - mu = {1 - mu:g} must lie above 0 and below 1, in order"
        )
    generator = torch.Generator().manual_seed(seed)
    q, _ = torch.linalg.qr(torch.randn(size, size, dtype=torch.float64, generator=generator))
    eigenvalues = torch.linspace(smallest, 1 - mu, size, dtype=torch.float64)
    weight = q * eigenvalues @ q.T
    return (weight + weight.T) / 2


def _check(weight: Tensor) -> Tensor:
    if weight.ndim != 2 or weight.shape[0] != weight.shape[1]:
        raise UserError(f"W is of shape {tuple(weight.shape)}; it must be square")
    weight = weight.to(torch.float64)
    if not torch.isfinite(weight).all():
        raise UserError("W has entries that are not finite")
    largest = float(weight.abs().max())
    asymmetry = float((weight - weight.T).abs().max())
    if asymmetry > SYMMETRIC * largest:
        raise UserError(f"W is not symmetric: entries differ from their mirror images by up to {asymmetry:.3g}")
    weight = (weight + weight.T) / 2
    smallest = float(torch.linalg.eigvalsh(weight)[0])
    if smallest <= POSITIVE * largest:
        raise UserError(f"W is not positive definite: its smallest eigenvalue is {smallest:.3g}")
    return weight
