"""Update rules: how x_{k+1} follows from x_k, what came before, and a transform T.

A rule is an optimization method with the gradient left open. Two readings say what a transform is:

    fixed point   -grad f(x) = T(x) - x     gradient descent is x_{k+1} = T(x_k), a plain network
    residual      -grad f(x) = T(x)         gradient descent is x_{k+1} = x_k + T(x_k), a ResNet

The same objects run in the deep networks, where T_k is a block of convolutions, and in float64 with
T(x) = Phi(W x), where tests compare them with a textbook optimizer on f. All tensors of one stage share one
shape; the activation, if the backbone has one after the sum (He et al., 2016), follows the update.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.utils.checkpoint import checkpoint

from lightning_modules.networks.methods import HEAVY_BALL_BETA, nesterov_betas
from lightning_modules.networks.options import choice
from lightning_modules.networks.recomputation import recomputing

READINGS = ("residual", "fixed_point")
COEFFICIENTS = ("learned", "fixed")
STARTS = ("repeat", "zero")

Transform = Callable[[Tensor], Tensor]
Coefficient = Tensor | float


class State(NamedTuple):
    """x_k and the one tensor of history that a rule carries: x_{k-1}, or a momentum buffer. None: none yet."""

    x: Tensor
    history: Tensor | None = None


def descent(point: Tensor, t: Tensor, reading: str) -> Tensor:
    """v = -grad f(point), given t = T(point)."""
    return t - point if reading == "fixed_point" else t


def gradient_step(point: Tensor, t: Tensor, reading: str) -> Tensor:
    """point - grad f(point), given t = T(point)."""
    return t if reading == "fixed_point" else point + t


def look_ahead(state: State, beta: Coefficient) -> Tensor:
    """x_k + beta (x_k - x_{k-1}), in one pass over memory; x_{-1} = 0 if there is no history.

    A compiler is asked to recompute it, and x_k - x_{k-1}, for the backward pass: it would save them.
    """
    if state.history is None:
        return (1 + beta) * state.x
    return _computed_again(_interpolate, *state, beta)


def _computed_again(function: Callable[..., Tensor], *arguments: Coefficient) -> Tensor:
    """``function(*arguments)``, of which compilers save only the arguments for the backward pass."""
    if torch.is_grad_enabled() and torch.compiler.is_compiling():
        return checkpoint(function, *arguments, use_reentrant=False)
    return function(*arguments)


def _momentum(x: Tensor, history: Tensor, beta: Coefficient) -> Tensor:
    return beta * (x - history)


def _interpolate(x: Tensor, history: Tensor, beta: Coefficient) -> Tensor:
    return torch.lerp(x, history.to(x.dtype), -beta)  # bf16 rounds -beta finer than 1 + beta


def scalars(values: Sequence[float], coefficients: str) -> nn.Parameter | tuple[float, ...]:
    """A rule's coefficients: a parameter of shape (len(values),) that starts there if "learned", else constants.

    Raises:
        ValueError: ``coefficients`` is neither "learned" nor "fixed".
    """
    learned = choice("coefficients", coefficients, COEFFICIENTS) == "learned"
    return nn.Parameter(torch.tensor(values)) if learned and values else tuple(values)


def unpack(values: Sequence[Coefficient], count: int) -> list[Coefficient]:
    """``count`` coefficients, of which a parameter is read at once.

    Read one by one, each scalar's gradient takes a vector of zeros of its own; but what stands for a parameter in
    ``torch.fx`` does not tell its length.
    """
    return [values[k] for k in range(count)] if isinstance(values, fx.Proxy) else [*values]


def evaluate(transform: Transform, point: Tensor) -> Tensor:
    """T(point).

    Raises:
        ValueError: the transform changed the point in place, which updates read, too. Compilers and ``torch.fx`` do
            not look, and tensors of ``torch.inference_mode`` do not tell.
    """
    if torch.compiler.is_compiling() or isinstance(point, fx.Proxy) or point.is_inference():
        return transform(point)
    version = point._version
    t = transform(point)
    if point._version != version:
        raise ValueError("a transform must not change its input in place, as updates read it, too")
    return t


class UpdateRule(nn.Module):
    """A method over ``steps`` layers: where T is evaluated (``point``) and what follows (``step``).

    Both are given what ``layers`` has for the layer. ``uses_start`` tells whether x_0 itself enters the sums, so
    that a stage needs a shortcut to it.
    """

    uses_start = True

    def __init__(self, steps: int, reading: str = "residual") -> None:
        super().__init__()
        if steps < 1:
            raise ValueError(f"a rule takes one step or more, got {steps}")
        self.steps = steps
        self.reading = choice("reading", reading, READINGS)

    def extra_repr(self) -> str:
        return f"steps={self.steps}, reading={self.reading!r}"

    def layers(self) -> Iterable[Any]:
        """What ``point`` and ``step`` are given for each layer: its coefficients (``unpack``), or its number."""
        return range(self.steps)

    def start(self, x: Tensor) -> State:
        """The state before layer 0."""
        return State(x)

    def point(self, state: State, layer: Any) -> Tensor:
        """Where the layer's T_k is evaluated: x_k, or a point looked ahead to."""
        return state.x

    def step(self, state: State, point: Tensor, t: Tensor, layer: Any) -> State:
        """The state after the layer, given t = T_k(point)."""
        raise TypeError(f"{type(self).__name__} must define step")

    def finish(self, state: State) -> Tensor:
        """The result, from the state after the last layer."""
        return state.x

    def forward(self, x: Tensor, transforms: Sequence[Transform], activation: Transform | None = None) -> Tensor:
        """Run all layers from x_0 = x.

        Args:
            x: the start, any shape.
            transforms: T_0, ..., T_{steps-1}, each keeping x's shape and leaving its input as it is.
            activation: applied to each x_{k+1}.

        Raises:
            ValueError: not as many transforms as steps, or one that changes its input in place.
        """
        self.check_transforms(transforms)
        state = self.start(x)
        for layer, transform in zip(self.layers(), transforms, strict=True):
            point = self.point(state, layer)
            with self._keeping(state, point, layer):
                t = evaluate(transform, point)
            state = self.step(state, point, t, layer)
            if activation is not None:
                state = state._replace(x=activation(state.x))
        return self.finish(state)

    def check_transforms(self, transforms: Sequence[Transform]) -> None:
        """Raises:
        ValueError: they are not as many as the steps.
        """
        if len(transforms) != self.steps:
            raise ValueError(f"a rule of {self.steps} steps takes as many transforms, got {len(transforms)}")

    def _keeping(self, state: State, point: Tensor, layer: Any) -> AbstractContextManager:
        """Inside, what a transform would save of a lookahead point is recomputed from the state.

        x_k and x_{k-1} are kept anyway: Nesterov's structures take the memory of a ResNet.
        """
        if point is state.x:
            return nullcontext()
        coefficients = [
            value for value in (layer if isinstance(layer, tuple) else [layer]) if torch.is_tensor(value)
        ]
        return recomputing(
            point, [*state, *coefficients], lambda x, history, *_: self.point(State(x, history), layer)
        )


class GradientDescent(UpdateRule):
    """x_{k+1} = T(x_k) (plain network) or x_k + T(x_k) (ResNet)."""

    def __init__(self, steps: int, reading: str = "residual") -> None:
        super().__init__(steps, reading)
        self.uses_start = reading == "residual"

    def step(self, state: State, point: Tensor, t: Tensor, layer: int) -> State:
        return State(gradient_step(point, t, self.reading))


class HeavyBall(UpdateRule):
    """x_{k+1} = x_k - grad f(x_k) + beta_k (x_k - x_{k-1}); one beta a layer.

    In the residual reading beta = 0 is ResNet. With x_{-1} = x_0 the first layer has no momentum, so no beta.

    Args:
        beta: the constant that each beta_k is, or starts from if learned.
        start: x_{-1} = x_0 ("repeat") or 0 ("zero").
    """

    def __init__(
        self,
        steps: int,
        reading: str = "residual",
        coefficients: str = "learned",
        beta: float = HEAVY_BALL_BETA,
        start: str = "repeat",
    ) -> None:
        super().__init__(steps, reading)
        self.first = 1 if choice("start", start, STARTS) == "repeat" else 0
        self.beta = scalars([float(beta)] * (steps - self.first), coefficients)
        self.uses_start = reading == "residual" or steps > self.first

    def layers(self) -> list[Coefficient | None]:
        return [None] * self.first + unpack(self.beta, self.steps - self.first)

    def step(self, state: State, point: Tensor, t: Tensor, beta: Coefficient | None) -> State:
        if beta is None:
            return State(gradient_step(point, t, self.reading), state.x)
        if state.history is None:
            return State(gradient_step(point, t, self.reading) + beta * state.x, state.x)
        if self.reading == "residual":
            return State(look_ahead(state, beta).add_(t), state.x)
        return State(t + _computed_again(_momentum, *state, beta), state.x)


class TwoCoefficient(UpdateRule):
    """x_{k+1} = a_k x_k + b_k x_{k-1} + T(x_k): heavy ball's general form.

    (1, 0) is ResNet, (beta, -beta) the fixed-point and (1 + beta, -beta) the residual form of heavy ball. The
    pair covers both readings, so ``reading`` only says where the defaults come from.

    Args:
        a, b: the constants that a_k and b_k are, or start from if learned; by default those of ``reading`` at
            beta = ``HEAVY_BALL_BETA``.
        start: x_{-1} = x_0 ("repeat") or 0 ("zero").
    """

    def __init__(
        self,
        steps: int,
        reading: str = "residual",
        coefficients: str = "learned",
        a: float | None = None,
        b: float | None = None,
        start: str = "repeat",
    ) -> None:
        super().__init__(steps, reading)
        identity = 1.0 if reading == "residual" else 0.0
        a = identity + HEAVY_BALL_BETA if a is None else float(a)
        b = -HEAVY_BALL_BETA if b is None else float(b)
        self.first = 0 if choice("start", start, STARTS) == "repeat" else 1
        self.a = scalars([a] * steps, coefficients)
        self.b = scalars([b] * (steps - self.first), coefficients)

    def start(self, x: Tensor) -> State:
        return State(x, x if self.first == 0 else None)

    def layers(self) -> Iterable[tuple[Coefficient, Coefficient | None]]:
        b = unpack(self.b, self.steps - self.first)
        return zip(unpack(self.a, self.steps), [None] * self.first + b, strict=True)

    def step(self, state: State, point: Tensor, t: Tensor, layer: tuple[Coefficient, Coefficient | None]) -> State:
        a, b = layer
        x = a * state.x + t
        if b is not None:
            x = x + b * state.history
        return State(x, state.x)


class NesterovLookahead(UpdateRule):
    """y_k = x_k + beta_k (x_k - x_{k-1}); x_{k+1} = y_k - grad f(y_k); x_{-1} = x_0.

    beta_0 multiplies zero and is left out; the others are, or start from, ``nesterov_betas``.
    """

    def __init__(self, steps: int, reading: str = "residual", coefficients: str = "learned") -> None:
        super().__init__(steps, reading)
        self.beta = scalars(nesterov_betas(steps)[1:steps], coefficients)
        self.uses_start = reading == "residual" or steps > 1

    def layers(self) -> list[Coefficient | None]:
        return [None, *unpack(self.beta, self.steps - 1)]

    def point(self, state: State, beta: Coefficient | None) -> Tensor:
        return state.x if beta is None else look_ahead(state, beta)

    def step(self, state: State, point: Tensor, t: Tensor, beta: Coefficient | None) -> State:
        return State(gradient_step(point, t, self.reading), state.x)


class NesterovMultiStep(UpdateRule):
    """x_{k+1} = x_k + sum_{j<=k} h_{k+1}^j v_j with h from ``multi_step_table`` and v = -grad f.

    In O(1) memory: m_k = beta_{k+1} (v_k + m_{k-1}), x_{k+1} = x_k + v_k + m_k. Its sequence is that of the
    points y_k that ``NesterovLookahead`` looks ahead to.
    """

    def __init__(self, steps: int, reading: str = "residual", coefficients: str = "learned") -> None:
        super().__init__(steps, reading)
        self.beta = scalars(nesterov_betas(steps)[1:], coefficients)

    def layers(self) -> list[Coefficient]:
        return unpack(self.beta, self.steps)

    def step(self, state: State, point: Tensor, t: Tensor, beta: Coefficient) -> State:
        v = descent(point, t, self.reading)
        m = beta * (v if state.history is None else v + state.history)
        return State(gradient_step(point, t, self.reading) + m, m)
