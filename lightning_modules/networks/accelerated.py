"""Update rules of faster methods than heavy ball and Nesterov's, and of any method given by its step table.

Shapes: every tensor of a stage has one shape, whatever it is. Coefficients and rates: ``methods``.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from lightning_modules.networks.methods import MomentumTable, check_step_table, optimized_gradient
from lightning_modules.networks.updates import (
    Coefficient,
    State,
    Transform,
    UpdateRule,
    descent,
    evaluate,
    gradient_step,
    look_ahead,
    scalars,
    unpack,
)

MU = 0.1
"""Default strong convexity of f at L = 1: condition number 10. A convolutional network has no known mu."""


class MomentumMethod(UpdateRule):
    """x_{k+1} = x_k + momentum_k (x_k - x_{k-1}) + step_k v(x_k + lookahead_k (x_k - x_{k-1})); x_{-1} = x_0.

    Learned coefficients start from the table; layer 0 has no history and so no momenta.

    Args:
        table: the method, e.g. ``methods.triple_momentum``: (steps, mu, smoothness) to its coefficients.
        mu, smoothness: constants of f that the coefficients are the best for.
    """

    def __init__(
        self,
        steps: int,
        reading: str = "residual",
        coefficients: str = "learned",
        mu: float = MU,
        smoothness: float = 1.0,
        *,
        table: Callable[[int, float, float], MomentumTable],
    ) -> None:
        super().__init__(steps, reading)
        values = table(steps, mu, smoothness)
        self.step_size = scalars(values.step, coefficients)
        self.momentum = scalars(values.momentum[1:], coefficients)
        self.looks_ahead = any(values.lookahead)
        self.lookahead = scalars(values.lookahead[1:] if self.looks_ahead else (), coefficients)
        self.ends_ahead = bool(values.output)
        self.output = scalars((values.output,) if self.ends_ahead else (), coefficients)

    def layers(self) -> Iterable[tuple[Coefficient | None, ...]]:
        """Each layer's lookahead, momentum and step."""
        lookahead, momentum = (unpack(values, self.steps - 1) for values in (self.lookahead, self.momentum))
        return zip(
            [None, *lookahead] if self.looks_ahead else [None] * self.steps,
            [None, *momentum],
            unpack(self.step_size, self.steps),
            strict=True,
        )

    def point(self, state: State, layer: tuple[Coefficient | None, ...]) -> Tensor:
        lookahead, *_ = layer
        return state.x if lookahead is None else look_ahead(state, lookahead)

    def step(self, state: State, point: Tensor, t: Tensor, layer: tuple[Coefficient | None, ...]) -> State:
        _, momentum, step_size = layer
        base = state.x if momentum is None else look_ahead(state, momentum)
        return State(base + step_size * descent(point, t, self.reading), state.x)

    def finish(self, state: State) -> Tensor:
        return look_ahead(state, self.output[0]) if self.ends_ahead else state.x


class OptimizedGradient(UpdateRule):
    """``methods.optimized_gradient``, with d_k = x_k - w_k as the one tensor of history.

    x_{k+1} = x_k + v_k / L + d_{k+1}, d_{k+1} = beta_k (v_k / L + d_k) + gamma_k v_k / L, d_0 = 0.
    """

    def __init__(
        self, steps: int, reading: str = "residual", coefficients: str = "learned", smoothness: float = 1.0
    ) -> None:
        super().__init__(steps, reading)
        if not smoothness > 0:
            raise ValueError(f"smoothness must be positive, got {smoothness}")
        beta, gamma = optimized_gradient(steps)
        self.beta, self.gamma = scalars(beta[1:], coefficients), scalars(gamma, coefficients)
        self.step_size = 1 / smoothness

    def layers(self) -> Iterable[tuple[Coefficient | None, Coefficient]]:
        return zip([None, *unpack(self.beta, self.steps - 1)], unpack(self.gamma, self.steps), strict=True)

    def step(self, state: State, point: Tensor, t: Tensor, layer: tuple[Coefficient | None, Coefficient]) -> State:
        beta, gamma = layer
        v = self.step_size * descent(point, t, self.reading)
        d = gamma * v
        if beta is not None:
            d = d + beta * (v + state.history)
        return State(state.x + v + d, d)


class LinearizedADMM(UpdateRule):
    """ADMM on f(x') + f(x'') subject to x' = x'', linearised, with penalty 1 (Li et al. 2018).

        x'_{k+1}  = 1/2 (G(x'_k)  + x''_k    - l_k)
        x''_{k+1} = 1/2 (G(x''_k) + x'_{k+1} + l_k)
        l_{k+1}   = l_k + x'_{k+1} - x''_{k+1},       G(x) = x - grad f(x), x'_0 = x''_0 = x_0, l_0 = 0

    The result is x''. Each layer evaluates its transform twice, at twice the multiply-adds.
    """

    def forward(self, x: Tensor, transforms: Sequence[Transform], activation: Transform | None = None) -> Tensor:
        self.check_transforms(transforms)
        first, second, dual = x, x, torch.zeros_like(x)
        for transform in transforms:
            first = 0.5 * (gradient_step(first, evaluate(transform, first), self.reading) + second - dual)
            if activation is not None:
                first = activation(first)
            second = 0.5 * (gradient_step(second, evaluate(transform, second), self.reading) + first + dual)
            if activation is not None:
                second = activation(second)
            dual = dual + first - second
        return second


class StepTable(UpdateRule):
    """x_{k+1} = x_k + sum_{j<=k} h_{k+1}^j v_j for any lower-triangular table of steps.

    All v_j are kept: memory grows with the layers, unlike that of methods with a short recurrence.

    Args:
        table: ``table[k][j]`` = h_{k+1}^j, at least as many rows as steps (``methods.check_step_table``).
    """

    def __init__(
        self,
        steps: int,
        reading: str = "residual",
        coefficients: str = "learned",
        table: Sequence[Sequence[float]] = (),
    ) -> None:
        super().__init__(steps, reading)
        rows = [scalars(row, coefficients) for row in check_step_table(table, steps)]
        self.table = nn.ParameterList(rows) if coefficients == "learned" else rows

    def forward(self, x: Tensor, transforms: Sequence[Transform], activation: Transform | None = None) -> Tensor:
        self.check_transforms(transforms)
        gradients: list[Tensor] = []
        for row, transform in zip(self.table, transforms, strict=True):
            gradients.append(descent(x, evaluate(transform, x), self.reading))
            x = x + sum(h * v for h, v in zip(unpack(row, len(gradients)), gradients, strict=True))
            if activation is not None:
                x = activation(x)
        return x
