"""How fast methods for L = 1 are on quadratics, exactly: in the long run, and after so many layers.

On a quadratic every method here multiplies the part of z - z* that belongs to an eigenvalue w of W by a polynomial
p_k(w) after k layers, whatever the start. So no start and no W need be drawn: W is its eigenvalues.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from lightning_modules.networks.rules import create_rule


def _admm_limit(mu: float) -> float:
    """Spectral radius of a layer on (x', x'', l) at w = 1 - mu (``rules.LinearizedADMM``)."""
    w = 1 - mu
    first = torch.tensor([w, 1.0, -1.0], dtype=torch.float64) / 2
    second = (torch.tensor([0.0, w, 1.0], dtype=torch.float64) + first) / 2
    multiplier = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64) + first - second
    return float(torch.linalg.eigvals(torch.stack([first, second, multiplier])).abs().max())


LIMITS: dict[str, Callable[[float], float]] = {
    "gradient_descent": lambda mu: 1 - mu,
    "heavy_ball": lambda mu: 1 - math.sqrt(mu),
    "nesterov": lambda mu: math.sqrt(1 - mu),
    "nesterov_strongly_convex": lambda mu: 1 - math.sqrt(mu),
    "optimized_gradient": lambda mu: math.sqrt(1 - mu),
    "triple_momentum": lambda mu: 1 - math.sqrt(mu),
    "chebyshev": lambda mu: (1 - math.sqrt(mu)) / (1 + math.sqrt(mu)),
    "linearized_admm": _admm_limit,
}
"""By method the limit, over layers, of the factor by which one layer shortens the distance, at mu and L = 1.

The largest root of the method's recursion at the eigenvalue mu of the Hessian, where each of them is slowest as
long as no eigenvalue is close to L, where the optimized gradient method's root tends to 1 (repo's derivation). The
momentum of Nesterov's method and of the optimized gradient method tends to 1, so their roots' product to 1 - mu: in
the long run both are slower than gradient descent.
"""


def heavy_ball_limit(beta: float, eigenvalues: Tensor) -> float:
    """The factor's limit at any beta: the largest root of r^2 - (w + beta) r + beta over eigenvalues w of W."""
    w = eigenvalues.to(torch.complex128)
    root = ((w + beta) ** 2 - 4 * beta).sqrt()
    return float(torch.stack([w + beta + root, w + beta - root]).abs().max()) / 2


def distances(method: str, constants: Mapping[str, Any], eigenvalues: Tensor, layers: int) -> list[float]:
    """|z_k - z*| / |z_0 - z*| for k = 0, ..., ``layers``: the root mean square over starts in all directions.

    Args:
        method, constants: an update rule in the fixed-point reading and its options.
        eigenvalues: of W, (n,), in (0, 1).
        layers: the most.
    """
    start = torch.ones_like(eigenvalues, dtype=torch.float64)

    def layer(z: Tensor) -> Tensor:
        return eigenvalues * z

    with torch.no_grad():
        ends = [
            create_rule(method, k, "fixed_point", **constants)(start, [layer] * k) for k in range(1, layers + 1)
        ]
    return [1.0, *(float(end.square().mean().sqrt()) for end in ends)]
