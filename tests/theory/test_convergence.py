"""What is proven holds, and the measured rates are the proven ones where those are sharp."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from benchmark.report.theory import write_convergence, write_step_tables
from benchmark.theory.convergence import METHODS, create_problem, measure, measured_factor, results, step_tables
from lightning_modules.networks.rules import METHODS as RULES


@pytest.fixture(scope="module")
def rows():
    return measure(condition_numbers=(20, 300), layers=60)


def test_every_bound_holds_on_every_layer(rows):
    checked = [row for row in rows if row["bound used"] is not None]
    assert {row["method"] for row in checked} == {name for name, method in METHODS.items() if method.bound}
    for row in checked:
        assert row["bound used"] <= 1 + 1e-6, row


def test_sharp_bounds_stay_sharp(rows):
    """A bound that shrinks too slowly would leave a share that goes to 0."""
    for row in rows:
        if row["method"] in ("gradient_descent", "chebyshev") and row["objective"] == "quadratic":
            assert row["bound used"] == pytest.approx(1)
            assert row["bound used at the end"] > 0.02, row


@pytest.mark.parametrize("method", ["gradient_descent", "heavy_ball", "triple_momentum", "chebyshev"])
def test_measured_factor_is_the_proven_one_on_a_quadratic(method):
    problem = create_problem("quadratic", 10)
    distances = (results(method, problem, 60) - problem.minimizer).norm(dim=-1).numpy()
    assert measured_factor(distances) == pytest.approx(METHODS[method].factor(problem), rel=0.02)


def test_no_distance_shrinks_slower_than_proven(rows):
    for row in rows:
        if row["proven factor"] is not None:
            assert row["measured factor"] <= row["proven factor"] + 0.02, row


def test_faster_methods_need_fewer_layers():
    needed = {row["method"]: row["layers to 1e-6"] for row in measure(["quadratic"], [10], layers=110)}
    assert needed["chebyshev"] < needed["nesterov_strongly_convex"] < needed["gradient_descent"]


def test_every_rule_of_theory_is_measured():
    special = {"two_coefficient", "nesterov_multi_step", "step_table"}  # forms of others, or of no method
    assert set(METHODS) == set(RULES) - special


def test_problem_has_the_constants_it_says():
    problem = create_problem("quadratic", 50)
    assert problem.mu == pytest.approx(0.02)
    assert problem.distance == pytest.approx(1)
    assert torch.linalg.cond(torch.eye(30) - problem.objective.weight) < 50
    assert problem.gap(problem.minimizer) == 0


def test_factor_of_a_geometric_sequence():
    assert measured_factor(0.5 ** np.arange(20)) == pytest.approx(0.5)
    assert measured_factor(np.maximum(0.5 ** np.arange(90), 1e-13)) == pytest.approx(0.5)
    assert measured_factor(np.array([1.0, 0.5])) is None


def test_tables_and_figures(rows, tmp_path):
    titles = {name: method.title for name, method in METHODS.items()}
    origin = {"device": "CPU: abacus", "torch": "2.9", "commit": "0123456"}
    paths = write_convergence(tmp_path, rows, titles, origin) + write_step_tables(tmp_path, step_tables(5))
    table = pd.read_csv(paths[0])
    assert len(table) == len(rows)
    assert "distances" not in table
    assert table["measured factor"].iloc[0] == pytest.approx(rows[0]["measured factor"], rel=1e-5)
    text = paths[1].read_text()
    assert "triple momentum" in text
    assert "- CPU: abacus, torch 2.9, commit 0123456." in text
    assert "nan" not in text
    assert math.prod(path.stat().st_size for path in paths) > 0
