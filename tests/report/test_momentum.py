"""The answer follows from the records: the best beta of each seed, its agreement with theory, and the gain."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from benchmark.errors import UserError
from benchmark.experiments import get_experiment
from benchmark.experiments.hypothesis import FAMILIES
from benchmark.experiments.momentum import BEST_IN_THE_LIMIT, BETAS, MOMENTUM_CIFAR, MOMENTUM_DIGITS
from benchmark.report.hypothesis import QUANTITIES
from benchmark.report.momentum import Sweep, agreement, best_betas, gain, read_sweeps, theorys_beta
from benchmark.report.momentum_plots import write_momentum_plots
from benchmark.report.momentum_tables import answers, write_momentum_tables
from benchmark.report.sections import read_sections
from benchmark.reports import heavy_ball_distances
from lightning_modules.networks import create_network
from tests.report.conftest import make_cell

TABLES = Path(__file__).parents[2] / "results" / "tables"
DISTANCES = {beta: [1.0] * 10 + [0.5 + (beta - 0.3) ** 2] * 11 for beta in BETAS}
"""Of 10 to 20 steps: beta = 0.3 ends nearest."""


@pytest.fixture
def add(add_run):
    def add(row, error, seed=0, **options):
        cell = make_cell(MOMENTUM_DIGITS, row, "digits", "short", "digits")
        return add_run(row, error, seed=seed, experiment=MOMENTUM_DIGITS, cell=cell, data="digits", **options)

    return add


def fill(add, error, seeds=(0, 1), betas=BETAS):
    """``error(beta, seed)`` with 10 layers."""
    for beta in betas:
        for seed in seeds:
            add(f"shared-10-{beta:g}", error(beta, seed), seed)


def errors(results):
    """The only sweep's test errors."""
    (section,) = read_sections(MOMENTUM_DIGITS, results)
    (sweep,) = read_sweeps(section)
    return sweep.results["test error (%)"]


def write(results):
    """Tables, then plots."""
    paths = write_momentum_tables(MOMENTUM_DIGITS, results, DISTANCES)
    return paths + write_momentum_plots(MOMENTUM_DIGITS, results, DISTANCES)


def near(steps=10):
    return pd.Series({beta: found[steps] for beta, found in DISTANCES.items()})


@pytest.mark.parametrize(("sign", "best"), [(1, 0.3), (-1, -0.4)])
def test_theory_is_right_or_wrong(add, results, sign, best):
    fill(add, lambda beta, seed: 10 + sign * (beta - 0.3) ** 2 + seed)
    found = errors(results)
    assert theorys_beta(near()) == 0.3
    assert best_betas(found).mean == best
    assert agreement(found, near()).mean == pytest.approx(sign)
    assert gain(found, 0.3).mean == pytest.approx(-sign * 0.09)


def test_each_seed_has_a_best_beta_and_ties_are_shared(add, results):
    fill(add, lambda beta, seed: 10 + abs(beta - (0.8 if seed else 0.2)))
    add("shared-10-0.1", 10.0, seed=2)  # a seed without the others counts in neither
    summary = best_betas(errors(results))
    assert (summary.mean, summary.n) == (pytest.approx(0.5), 2)
    ties = pd.DataFrame([[5.0, 5.0, 6.0]], columns=[0.0, 0.4, 0.8])
    assert best_betas(ties).mean == pytest.approx(0.2)
    assert agreement(ties * 0, pd.Series({0.0: 1.0, 0.4: 2.0, 0.8: 3.0})) is None


def test_a_run_that_diverged_is_the_worst_and_in_no_mean(add, results):
    fill(add, lambda beta, seed: 10 - beta, betas=BETAS[:-1])
    for seed in (0, 1):
        add("shared-10-0.9", None, seed, status="diverged")
    found = errors(results)
    assert best_betas(found).mean == 0.8
    assert gain(found, 0.8).mean == pytest.approx(-0.8)
    assert gain(found, 0.9) is None
    text = write(results)[0].read_text()
    assert "| diverged " in text
    assert "nan" not in text
    assert "inf" not in text


def test_tables_say_what_the_runs_say(add, results):
    fill(add, lambda beta, seed: 10 + (beta - 0.3) ** 2 + seed * (1 + beta))
    paths = write(results)
    names = [path.name for path in paths]
    assert names == [f"momentum-digits-short{end}" for end in (".md", "-runs.csv", ".svg", ".png")]
    text = paths[0].read_text()
    assert "| shared   | 10       | test error (%) | 0.3             |" in text
    assert "| 0      | 0.590      | 10.59 ± 6.35" in text  # 10.09 and 11.09
    assert "missing 2, 3, 4" in text
    runs = pd.read_csv(paths[1])
    assert len(runs) == 2 * len(BETAS)
    assert runs.set_index(["beta", "seed"])["test error (%)"][0.9, 1] == pytest.approx(12.26)


def test_a_few_runs_make_tables_without_answers(add, results):
    add("injected-5-0.2", 3.0)
    text = write(results)[0].read_text()
    assert "| injected | 5        | test error (%) | -0.4            | —                | —" in text


def test_the_same_records_give_the_same_bytes(add, results):
    fill(add, lambda beta, seed: 10 + beta + seed)
    before = [path.read_bytes() for path in write(results)]
    assert [path.read_bytes() for path in write(results)] == before


def test_only_rows_of_the_users_own(add_run, results):
    cell = make_cell(MOMENTUM_DIGITS, "feedforward:depth=2", "digits", "short", "digits")
    add_run(cell=cell, data="digits")
    with pytest.raises(UserError, match="no row of momentum-digits was run"):
        write(results)


@pytest.mark.parametrize("experiment", [MOMENTUM_DIGITS, MOMENTUM_CIFAR], ids=lambda e: e.name)
def test_rows_differ_in_beta_alone(experiment):
    assert get_experiment(experiment.name) is experiment
    for row in experiment.rows:
        family, depth, beta = row.key.split("-", 2)
        name, options = FAMILIES[family]
        assert row.network.name == name
        assert dict(row.network.options) == {
            **options,
            "method": "heavy_ball",
            "coefficients": "fixed",
            "depth": int(depth),
            "beta": float(beta),
        }


@pytest.mark.parametrize("family", FAMILIES)
def test_without_momentum_it_is_gradient_descent(family):
    row = MOMENTUM_DIGITS.row(f"{family}-{20 if family == 'convolutional' else 5}-0")
    name, options = FAMILIES[family]
    torch.manual_seed(0)
    ours = create_network(row.network.name, **row.network.options).eval()
    torch.manual_seed(0)
    theirs = create_network(name, **options, method="gradient_descent", depth=row.network.options["depth"]).eval()
    images = torch.randn(4, 3, 8, 8)
    torch.testing.assert_close(ours(images), theirs(images))


def test_theorys_beta_grows_with_the_layers():
    found = heavy_ball_distances()
    assert list(found) == list(BETAS)
    best = [theorys_beta(pd.Series({beta: d[steps] for beta, d in found.items()})) for steps in (3, 5, 10, 20)]
    assert best == [0.3, 0.4, 0.6, 0.7]
    assert pytest.approx(0.81) == BEST_IN_THE_LIMIT
    assert {d[1] for d in found.values()} == {found[0.0][1]}  # the first step has no momentum


@pytest.mark.parametrize("name", ["momentum-digits-short", "momentum-cifar-short-jpeg-copy"])
def test_the_committed_answers_follow_from_the_committed_runs(name):
    runs = pd.read_csv(TABLES / f"{name}-runs.csv")
    sweeps = [
        Sweep(
            *place,
            {q: lines.pivot(index="seed", columns="beta", values=q).fillna(np.inf) for q in QUANTITIES},
        )
        for place, lines in runs.groupby(["family", "layers"], sort=False)
    ]
    assert answers(sweeps, heavy_ball_distances()) in (TABLES / f"{name}.md").read_text()
