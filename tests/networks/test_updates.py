"""Each rule, as a network with T(x) = Phi(W x), against a textbook optimizer on f, in float64 to 1e-12.

f(z) = 1/2 |z|^2 - sum_i Psi((U z)_i), U = W^(1/2), z = U x: grad f(z) = z - U Phi(U z) (docs/theory.md, 1).
In the residual reading the transform is minus the gradient itself: T(x) = Phi(W x) - x.
"""

import contextlib

import pytest
import torch

from lightning_modules.networks.methods import multi_step_table, nesterov_betas
from lightning_modules.networks.rules import METHODS, create_rule, step_table
from lightning_modules.networks.updates import READINGS, STARTS, State, look_ahead

STEPS, SIZE = 9, 6
phi = torch.tanh

pytestmark = pytest.mark.usefixtures("float64")


@pytest.fixture(scope="module")
def problem():
    """W symmetric positive definite with norm 0.9, its root U, and a start x_0."""
    generator = torch.Generator().manual_seed(1)
    q, _ = torch.linalg.qr(torch.randn(SIZE, SIZE, generator=generator, dtype=torch.float64))
    eigenvalues = torch.linspace(0.1, 0.9, SIZE, dtype=torch.float64)
    w, u = q @ torch.diag(eigenvalues) @ q.T, q @ torch.diag(eigenvalues.sqrt()) @ q.T
    return w, u, torch.randn(SIZE, generator=generator, dtype=torch.float64)


def network(problem, method, reading, steps=STEPS, **options):
    w, _, x0 = problem
    rule = create_rule(method, steps, reading, **options)
    layer = (lambda x: phi(w @ x)) if reading == "fixed_point" else (lambda x: phi(w @ x) - x)
    return rule(x0, [layer] * steps)


def gradient(u, z):
    """By autograd, from f itself; Psi of tanh is log cosh."""
    z = z.detach().requires_grad_()
    f = 0.5 * z @ z - torch.log(torch.cosh(u @ z)).sum()
    return torch.autograd.grad(f, z)[0]


def textbook_gradient_descent(u, z):
    for _ in range(STEPS):
        z = z - gradient(u, z)
    return z


def textbook_heavy_ball(u, z, beta=0.3):
    previous = z
    for _ in range(STEPS):
        z, previous = z - gradient(u, z) + beta * (z - previous), z
    return z


def textbook_nesterov(u, z):
    x, previous = z, z
    for k in range(STEPS):
        y = x + nesterov_betas(STEPS)[k] * (x - previous)
        x, previous = y - gradient(u, y), x
    return x


def textbook_multi_step(u, z):
    """x_{k+1} = x_k - sum_j h_{k+1}^j grad f(x_j), with all gradients kept."""
    gradients = []
    for row in multi_step_table(nesterov_betas(STEPS)):
        gradients.append(gradient(u, z))
        z = z - sum(h * g for h, g in zip(row, gradients, strict=True))
    return z


def textbook_triple_momentum(u, z, mu=0.1, smoothness=1.0):
    """Van Scoy et al. (2018), equations 2 to 4, in their own letters."""
    rho = 1 - (mu / smoothness) ** 0.5
    alpha, beta = (1 + rho) / smoothness, rho**2 / (2 - rho)
    gamma, delta = rho**2 / ((1 + rho) * (2 - rho)), rho**2 / (1 - rho**2)
    xi, previous = z, z
    for _ in range(STEPS):
        y = (1 + gamma) * xi - gamma * previous
        xi, previous = (1 + beta) * xi - beta * previous - alpha * gradient(u, y), xi
    return (1 + delta) * xi - delta * previous


def textbook_optimized_gradient(u, z):
    """Kim and Fessler (2016), algorithm OGM1, in their own letters."""
    theta, x, y = 1.0, z, z
    for i in range(STEPS):
        factor = 4 if i < STEPS - 1 else 8
        new = (1 + (1 + factor * theta**2) ** 0.5) / 2
        y_new = x - gradient(u, x)
        x = y_new + (theta - 1) / new * (y_new - y) + theta / new * (y_new - x)
        theta, y = new, y_new
    return x


def textbook_strongly_convex_nesterov(u, z, mu=0.1):
    beta = (1 - mu**0.5) / (1 + mu**0.5)
    x, previous = z, z
    for _ in range(STEPS):
        y = x + beta * (x - previous)
        x, previous = y - gradient(u, y), x
    return x


def textbook_chebyshev(u, z, mu=0.1):
    """Golub and Varga (1961), as a three-term recurrence of the iterates themselves."""
    sigma, gamma = (1 - mu) / (1 + mu), 2 / (1 + mu)
    previous, x, omega = z, z - gamma * gradient(u, z), 2.0
    for _ in range(STEPS - 1):
        omega = 1 / (1 - sigma**2 * omega / 4)
        x, previous = omega * (x - gamma * gradient(u, x) - previous) + previous, x
    return x


def textbook_admm(u, z):
    first, second, dual = z, z, torch.zeros_like(z)
    for _ in range(STEPS):
        first = (first - gradient(u, first) + second - dual) / 2
        second = (second - gradient(u, second) + first + dual) / 2
        dual = dual + first - second
    return second


TABLE = [[0.9], [0.1, 1.2], [-0.2, 0.3, 0.8]] + [[0.01 * j for j in range(k)] + [1.0] for k in range(3, STEPS)]


def textbook_step_table(u, z):
    gradients = []
    for row in TABLE:
        gradients.append(gradient(u, z))
        z = z - sum(h * g for h, g in zip(row, gradients, strict=True))
    return z


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("coefficients", ["fixed", "learned"])
@pytest.mark.parametrize(
    ("method", "textbook", "options"),
    [
        ("gradient_descent", textbook_gradient_descent, {}),
        ("heavy_ball", textbook_heavy_ball, {"beta": 0.3}),
        ("nesterov", textbook_nesterov, {}),
        ("nesterov_multi_step", textbook_multi_step, {}),
        ("nesterov_strongly_convex", textbook_strongly_convex_nesterov, {}),
        ("triple_momentum", textbook_triple_momentum, {}),
        ("optimized_gradient", textbook_optimized_gradient, {}),
        ("chebyshev", textbook_chebyshev, {}),
        ("linearized_admm", textbook_admm, {}),
        ("step_table", textbook_step_table, {"table": TABLE}),
    ],
)
def test_rule_is_the_optimizer(problem, method, textbook, options, coefficients, reading):
    if method not in ("gradient_descent", "linearized_admm"):
        options = {**options, "coefficients": coefficients}
    _, u, x0 = problem
    ours = u @ network(problem, method, reading, **options)
    assert torch.allclose(ours, textbook(u, u @ x0), rtol=0, atol=1e-12)
    assert not torch.allclose(ours, u @ x0, atol=0.1)


@pytest.mark.parametrize("reading", READINGS)
def test_multi_step_is_the_lookahead_sequence(problem, reading):
    """x of the multi-step form after n steps is y_n of the lookahead form."""
    n = STEPS
    lookahead = [network(problem, "nesterov", reading, steps, coefficients="fixed") for steps in (n - 1, n)]
    y = lookahead[1] + nesterov_betas(n)[n] * (lookahead[1] - lookahead[0])
    multi_step = network(problem, "nesterov_multi_step", reading, coefficients="fixed")
    assert torch.allclose(multi_step, y, rtol=0, atol=1e-12)


@pytest.mark.parametrize("start", ["repeat", "zero"])
@pytest.mark.parametrize(("reading", "a", "b"), [("fixed_point", 0.4, -0.4), ("residual", 1.4, -0.4)])
def test_two_coefficients_contain_heavy_ball(problem, reading, a, b, start):
    options = {"coefficients": "fixed", "start": start}
    general = network(problem, "two_coefficient", reading, a=a, b=b, **options)
    assert torch.allclose(general, network(problem, "heavy_ball", reading, beta=0.4, **options), rtol=0, atol=1e-12)


@pytest.mark.parametrize("reading", READINGS)
def test_start_of_the_history_is_what_it_says(problem, reading):
    """One step from x_{-1} = 0 has momentum beta x_0; from x_{-1} = x_0 it has none."""
    x0 = problem[2]
    plain = network(problem, "gradient_descent", reading, steps=1)
    repeat, zero = (
        network(problem, "heavy_ball", reading, steps=1, coefficients="fixed", start=start)
        for start in ("repeat", "zero")
    )
    assert torch.equal(repeat, plain)
    assert torch.allclose(zero, plain + 0.5 * x0, rtol=0, atol=1e-14)


ONE_TENSOR = [method for method in METHODS if method not in ("linearized_admm", "step_table")]
"""ADMM carries two tensors, a table of steps all gradients."""


@pytest.mark.parametrize("method", ONE_TENSOR)
@pytest.mark.parametrize("reading", READINGS)
def test_history_is_one_tensor(method, reading):
    """O(1) memory: every state holds x and at most one more tensor of its size."""
    rule = create_rule(method, 5, reading)
    state = rule.start(torch.ones(3))
    for layer in rule.layers():
        point = rule.point(state, layer)
        state = rule.step(state, point, 0.5 * point, layer)
        assert len(state) == 2
        assert state.x.shape == (3,)
        assert state.history is None or state.history.shape == (3,)


@pytest.mark.parametrize("method", ONE_TENSOR)
def test_every_method_is_its_step_table(problem, method):
    table = step_table(method, STEPS)
    assert torch.equal(table, table.tril())
    by_table = network(problem, "step_table", "residual", table=table.tolist(), coefficients="fixed")
    assert torch.allclose(by_table, network(problem, method, "residual"), rtol=0, atol=1e-12)


def test_a_table_may_be_a_tensor(problem):
    by_table = network(problem, "step_table", "residual", table=step_table("nesterov", STEPS), coefficients="fixed")
    assert torch.allclose(by_table, network(problem, "nesterov", "residual"), rtol=0, atol=1e-12)


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("method", ["heavy_ball", "two_coefficient"])
def test_transforms_are_batched_over_a_start_that_they_share(method, start):
    rule = create_rule(method, 3, start=start)

    def result(scale):
        return rule(torch.ones(4), [lambda x: torch.sin(scale * x)] * 3)

    scales = torch.tensor([0.5, 2.0])
    torch.testing.assert_close(torch.vmap(result)(scales), torch.stack([*map(result, scales)]))


def test_momentum_without_any_is_gradient_descent(problem):
    """mu = L leaves no momentum; the step stays 1."""
    expected = network(problem, "gradient_descent", "residual")
    for method in ("nesterov_strongly_convex", "triple_momentum", "chebyshev"):
        assert torch.allclose(network(problem, method, "residual", mu=1.0), expected, rtol=0, atol=1e-14)


def test_a_start_of_lower_precision_than_the_layers():
    """As under autocast, where some activations run in float32."""
    rule = create_rule("nesterov", 4, "fixed_point", coefficients="fixed")
    result = rule(torch.ones(3, dtype=torch.bfloat16), [lambda x: phi(0.5 * x.float())] * 4)
    assert result.dtype == torch.float32


@pytest.mark.parametrize("beta", [0.001, 0.003, 0.3])
def test_small_learned_coefficients_act_in_bf16(beta):
    """Rounded as 1 + beta they would act in steps of 1/128."""
    x, history = torch.zeros(1), torch.full((1,), -1.0)
    state = State(x.bfloat16(), history.bfloat16())
    assert look_ahead(state, torch.tensor(beta, dtype=torch.float32)).item() == pytest.approx(beta, rel=2**-8)


def needed_options(method, steps):
    """What a rule of the method cannot be made without."""
    return {"table": step_table("nesterov_multi_step", steps).tolist()} if method == "step_table" else {}


@pytest.mark.parametrize("method", METHODS)
def test_learned_coefficients_are_read_once(problem, method):
    """Each parameter is taken apart by one operation of the backward pass, however many layers there are."""
    options = needed_options(method, STEPS)
    parameters = dict(create_rule(method, STEPS, **options).named_parameters())
    nodes, waiting = set(), [network(problem, method, "residual", **options).grad_fn]
    while waiting:
        if (node := waiting.pop()) is not None and node not in nodes:
            nodes.add(node)
            waiting += [following for following, _ in node.next_functions]
    readers = [n for n in nodes if any(type(f).__name__ == "AccumulateGrad" for f, _ in n.next_functions)]
    assert len(readers) == len(parameters)


@pytest.mark.parametrize("method", METHODS)
def test_a_transform_that_changes_its_input_in_place_is_refused(method):
    """The update would read what it made of it, and a point computed again would not be what it kept."""
    options = needed_options(method, 3)
    rule = create_rule(method, 3, "fixed_point", **options)
    layers = [torch.nn.Sequential(torch.nn.ReLU(inplace=True), torch.nn.Linear(4, 4)) for _ in range(3)]
    for context in (contextlib.nullcontext(), torch.no_grad()):
        with context, pytest.raises(ValueError, match="must not change its input in place"):
            rule(torch.randn(2, 4), layers)
    with torch.inference_mode():
        create_rule(method, 3, "fixed_point", **options)(torch.randn(2, 4), [torch.relu] * 3)


@pytest.mark.parametrize("method", METHODS)
def test_as_many_transforms_as_steps(method):
    options = needed_options(method, 3)
    with pytest.raises(ValueError, match="a rule of 3 steps takes as many transforms, got 2"):
        create_rule(method, 3, **options)(torch.zeros(4), [torch.relu] * 2)
    with pytest.raises(ValueError, match=r"one step or more, got -1|2 rows"):
        create_rule(method, -1, **options)
