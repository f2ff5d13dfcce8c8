"""Update rules by name: the options that they take, and their step tables."""

import pytest
import torch

from lightning_modules.networks.methods import multi_step_table, nesterov_betas
from lightning_modules.networks.rules import METHODS, create_rule, step_table
from lightning_modules.networks.updates import GradientDescent, HeavyBall

STEPS = 9

pytestmark = pytest.mark.usefixtures("float64")


def test_a_method_without_coefficients_has_a_step_table(monkeypatch):
    monkeypatch.setitem(METHODS, "descent", lambda steps, reading: GradientDescent(steps, reading))
    assert torch.equal(step_table("descent", STEPS), step_table("gradient_descent", STEPS))
    with pytest.raises(ValueError, match="takes two gradients in a layer"):
        step_table("linearized_admm", STEPS)


def test_two_coefficients_with_the_sum_1_are_heavy_ball():
    by_two = step_table("two_coefficient", STEPS, a=1.5, b=-0.5)
    assert torch.allclose(by_two, step_table("heavy_ball", STEPS, beta=0.5), rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("two_coefficient", {"a": 0.7, "b": -0.3}),
        ("two_coefficient", {"start": "zero"}),
        ("heavy_ball", {"start": "zero"}),
    ],
)
def test_points_that_are_not_x_0_and_steps_have_no_table(method, options):
    with pytest.raises(ValueError, match=r"not x_0 plus steps"):
        step_table(method, STEPS, **options)


def test_step_table_of_the_multi_step_form_is_its_recursion():
    expected = torch.tensor([row + [0.0] * (STEPS - len(row)) for row in multi_step_table(nesterov_betas(STEPS))])
    assert torch.allclose(step_table("nesterov_multi_step", STEPS), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "triple_momentum", "mu": 0.0}, r"mu must be in \(0, smoothness\], got mu = 0.0"),
        ({"method": "chebyshev", "mu": 2.0}, r"mu must be in \(0, smoothness\], got mu = 2.0"),
        ({"method": "optimized_gradient", "smoothness": 0.0}, "smoothness must be positive, got 0.0"),
        ({"method": "step_table", "table": [[1.0], [1.0, 1.0]]}, "has 2 rows for 3 steps"),
        ({"method": "step_table", "table": [[1.0], [1.0], [1, 1, 1]]}, "row 1 of the step table has 1 entries"),
        (
            {"method": "step_table", "table": [[1.0, 2.0], [1, 1], [1, 1, 1]]},
            "not lower triangular: row 0 has 2.0 in",
        ),
        ({"method": "step_table", "table": [[1.0], [1, float("nan")], [1, 1, 1]]}, "nan in row 1, column 1"),
        ({"method": "heavyball"}, "unknown method 'heavyball'; valid: gradient_descent, heavy_ball"),
        ({"method": "nesterov", "reading": "fixed"}, "unknown reading 'fixed'; valid: residual, fixed_point"),
        ({"method": "heavy_ball", "coefficients": "free"}, "unknown coefficients 'free'"),
        ({"method": "heavy_ball", "start": "one"}, "unknown start 'one'; valid: repeat, zero"),
        ({"method": "nesterov", "beta": 0.5}, "nesterov does not take beta; its options: coefficients"),
    ],
)
def test_bad_options(arguments, message):
    with pytest.raises(ValueError, match=message):
        create_rule(steps=3, **arguments)


def test_a_rule_may_pass_options_on(monkeypatch):
    class Mine(HeavyBall):
        def __init__(self, *arguments, gamma=0.1, **options):
            super().__init__(*arguments, **options)
            self.gamma = gamma

    monkeypatch.setitem(METHODS, "mine", Mine)
    rule = create_rule("mine", 3, beta=0.25, coefficients="fixed", gamma=0.5)
    assert (rule.beta, rule.gamma) == ((0.25, 0.25), 0.5)
    monkeypatch.setitem(METHODS, "made", lambda steps, reading, **options: Mine(steps, reading, **options))
    assert create_rule("made", 3, gamma=0.25).gamma == 0.25
    with pytest.raises(ValueError, match="mine does not take gama; its options: beta, coefficients, gamma, start"):
        create_rule("mine", 3, gama=0.5)
    with pytest.raises(ValueError, match="beta must be a finite float32 number, got True"):
        create_rule("mine", 3, beta=True)
