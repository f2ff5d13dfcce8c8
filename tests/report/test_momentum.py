"""The answer follows from the records: each seed's best beta, its rank correlation and the difference."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from benchmark.errors import UserError
from benchmark.experiments import get_experiment
from benchmark.experiments.hypothesis import FAMILIES
from benchmark.experiments.momentum import BETAS, MOMENTUM_CIFAR, MOMENTUM_DIGITS
from benchmark.report.hypothesis import ERROR, Expected
from benchmark.report.layout import signed
from benchmark.report.momentum import (
    Sweep,
    best_betas,
    difference,
    rank_correlations,
    read_sweeps,
)
from benchmark.report.momentum_plots import draw_momentum, write_momentum_plots
from benchmark.report.momentum_tables import answers, write_momentum_tables
from benchmark.report.sections import read_sections
from benchmark.reports import expected_of_betas
from lightning_modules.networks import create_network
from tests.report.conftest import make_cell

TABLES = Path(__file__).parents[2] / "results" / "tables"
DISTANCES = {beta: [1.0] * 10 + [0.5 + (beta - 0.3) ** 2] * 11 for beta in BETAS}
"""Of 10 to 20 steps: beta = 0.3 ends nearest."""
EXPECTED = {beta: Expected(1 - beta, found, {("shared", 10): 1 + beta}) for beta, found in DISTANCES.items()}


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


def read(results):
    """The only sweep."""
    (section,) = read_sections(MOMENTUM_DIGITS, results)
    (sweep,) = read_sweeps(section)
    return sweep


def errors(results):
    return read(results).results(ERROR)


def write(results):
    """Tables, then plots."""
    paths = write_momentum_tables(MOMENTUM_DIGITS, results, EXPECTED)
    return paths + write_momentum_plots(MOMENTUM_DIGITS, results, EXPECTED)


def near(steps=10):
    return pd.Series({beta: found[steps] for beta, found in DISTANCES.items()})


def answer(text, quantity=ERROR):
    """The cells of the only line of answers."""
    (line,) = [line for line in text.split("\n## ")[1].splitlines() if f"| {quantity}" in line]
    return cells(line)


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.parametrize(("sign", "best"), [(1, 0.3), (-1, -0.4)])
def test_theory_is_right_or_wrong(add, results, sign, best):
    """The errors follow the distances, but not in proportion."""
    fill(add, lambda beta, seed: 50 + sign * 100 * (beta - 0.3) ** 6 + seed)
    found = errors(results)
    assert read(results).predicted_beta(EXPECTED) == 0.3
    assert best_betas(found).mean == best
    assert rank_correlations(found, near()).mean == pytest.approx(sign)
    assert difference(found, 0.3).mean == pytest.approx(-sign * 100 * 0.3**6, abs=1e-4)


def test_each_seed_has_a_best_beta_and_ties_are_shared(add, results):
    fill(add, lambda beta, seed: 10 + abs(beta - (0.8 if seed else 0.2)))
    add("shared-10-0.1", 10.0, seed=2)  # a seed without the others counts in neither
    summary = best_betas(errors(results))
    assert (summary.mean, summary.n) == (pytest.approx(0.5), 2)
    ties = pd.DataFrame([[5.0, 5.0, 6.0]], columns=[0.0, 0.4, 0.8])
    assert best_betas(ties).mean == pytest.approx(0.2)
    for alike in (ties * 0, ties * np.inf):
        assert best_betas(alike) is None
        assert rank_correlations(alike, pd.Series({0.0: 1.0, 0.4: 2.0, 0.8: 3.0})) is None


def test_a_run_that_diverged_is_the_worst_and_in_no_mean(add, results):
    fill(add, lambda beta, seed: 10 - beta, betas=BETAS[:-1])
    for seed in (0, 1):
        add("shared-10-0.9", None, seed, status="diverged")
    found = errors(results)
    assert best_betas(found).mean == 0.8
    assert difference(found, 0.8).mean == pytest.approx(-0.8)
    assert difference(found, 0.9) is None
    paths = write(results)
    text = paths[0].read_text()
    assert "| diverged " in text
    assert "nan" not in text
    assert "inf" not in text
    assert pd.read_csv(paths[1])["status"].value_counts().to_dict() == {"done": 22, "diverged": 2}


def test_where_seeds_diverged_the_difference_says_of_how_many_it_is(add, results):
    fill(add, lambda beta, seed: 10 - beta - seed * beta, seeds=(0, 1))
    fill(add, lambda beta, seed: 10, seeds=(2,), betas=[beta for beta in BETAS if beta != 0.3])
    add("shared-10-0.3", None, 2, status="diverged")
    *_, best, _, correlation, _, change = answer(write(results)[0].read_text())
    assert best.startswith("+0.71 [")  # 0.9 twice, and the mean of eleven that tie
    assert correlation.startswith("−0.")
    assert change == "−0.45 [−2.36, +1.46] (2)"


def test_a_run_that_is_done_counts_before_one_of_its_seed_that_diverged(add, add_run, results):
    add("shared-10-0.3", 3.0)
    cell = make_cell(MOMENTUM_DIGITS, "shared-10-0.3", "digits", "short", "digits", precision="bf16-mixed")
    add_run(cell.row, None, experiment=MOMENTUM_DIGITS, cell=cell, data="digits", status="diverged")
    assert errors(results)[0.3].tolist() == [pytest.approx(3.0)]
    assert read(results).diverged(0.3) == 0


def test_all_diverged(add, results):
    fill(add, lambda beta, seed: 10.0)
    for beta in BETAS:
        add(f"free-20-{beta:g}", None, status="diverged")
    text = write(results)[0].read_text()
    assert "| free     | 20       | test error (%) | 0.3              | —           | —" in text


def test_tables_say_what_the_runs_say(add, results):
    fill(add, lambda beta, seed: 10 + (beta - 0.3) ** 2 + seed * (1 + beta))
    paths = write(results)
    names = [path.name for path in paths]
    assert names == [f"momentum-digits-short{end}" for end in (".md", "-runs.csv", ".svg", ".png")]
    text = paths[0].read_text()
    # the errors' minima are at 0.3 and at -0.2, the ranks agree with the distances' by 1 and by -0.031
    ranks = rank_correlations(errors(results), near())
    left = rank_correlations(errors(results), pd.Series({beta: -beta for beta in BETAS}))
    assert answer(text) == [
        "shared",
        "10",
        ERROR,
        "0.3",
        "+0.05 [−3.13, +3.23]",
        f"{signed(left.mean)} [−1.00, +1.00]",  # faster is what has more left here
        f"{signed(ranks.mean)} [−1.00, +1.00]",
        f"{signed(left.mean)} [−1.00, +1.00]",
        "+0.06 [−1.85, +1.97]",
    ]
    assert ["0.0", "1.000", "0.590", "1.000", "10.59 ± 6.35"] in [
        cells(line)[:5] for line in text.splitlines()
    ]  # 10.09 and 11.09
    assert "missing 2, 3, 4" in text
    runs = pd.read_csv(paths[1])
    assert len(runs) == 2 * len(BETAS)
    assert runs.set_index(["beta", "seed"])[ERROR][0.9, 1] == pytest.approx(12.26)
    assert runs["run_id"].is_unique


def test_a_dotted_line_shows_the_predicted_beta(add, results):
    fill(add, lambda beta, seed: 10 + beta)
    (section,) = read_sections(MOMENTUM_DIGITS, results)
    figure = draw_momentum(section, [read(results)], EXPECTED)
    assert [list(ax.lines[-1].get_xdata()) for ax in figure.axes] == [[0.3, 0.3]] * 3


def test_a_few_runs_make_tables_without_answers(add, results):
    add("injected-5-0.2", 3.0)
    assert answer(write(results)[0].read_text())[4:] == ["—"] * 5


def test_results_of_zero_are_drawn(add, results):
    fill(add, lambda beta, seed: 0.0)
    assert len(write(results)) == 4


def test_the_same_records_give_the_same_bytes(add, results):
    fill(add, lambda beta, seed: 10 + beta + seed)
    before = [path.read_bytes() for path in write(results)]
    assert [path.read_bytes() for path in write(results)] == before


def test_only_rows_of_the_users_own(add_run, results):
    cell = make_cell(MOMENTUM_DIGITS, "feedforward:depth=2", "digits", "short", "digits")
    add_run(cell=cell, data="digits")
    with pytest.raises(UserError, match=r"no finished runs of 'momentum-digits'.* of its own rows"):
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


def test_the_predicted_beta_grows_with_the_layers():
    expected = expected_of_betas()
    found = {beta: of_beta.distances for beta, of_beta in expected.items()}
    assert list(found) == list(BETAS)
    places = [("convolutional", 20), ("free", 5), ("free", 10), ("free", 20)]
    best = [Sweep(*place, {beta: {} for beta in BETAS}).predicted_beta(expected) for place in places]
    assert best == [0.3, 0.4, 0.6, 0.7]
    assert {d[1] for d in found.values()} == {found[0.0][1]}  # the first step has no momentum


@pytest.mark.parametrize("name", ["momentum-digits-short", "momentum-cifar-short-jpeg-copy"])
def test_the_committed_answers_follow_from_the_committed_runs(name):
    runs = pd.read_csv(TABLES / f"{name}-runs.csv")
    sweeps = [
        Sweep(*place, {beta: committed(found) for beta, found in lines.groupby("beta")})
        for place, lines in runs.groupby(["family", "layers"], sort=False)
    ]
    left: dict[float, dict[tuple[str, int], float]] = {beta: {} for beta in BETAS}
    for run in runs.dropna(subset="images left").to_dict("records"):
        left[run["beta"]][run["family"], run["layers"]] = run["images left"]
    expected = {beta: replace(found, images_left=left[beta]) for beta, found in expected_of_betas().items()}
    assert answers(sweeps, expected) in (TABLES / f"{name}.md").read_text()


def test_the_documented_answers_are_the_committed_ones():
    """Section 6 of theory.md has those on the test error, of both data sets side by side."""
    found = [answers_on_error(TABLES / f"momentum-{name}.md") for name in ("digits-short", "cifar-short-jpeg-copy")]
    section = (TABLES.parents[1] / "docs" / "theory.md").read_text().split("\n## 6.")[1]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    assert len(lines) == len(found[0])
    for family, depth, *shown in ([cell.strip(" `") for cell in line.split("|")[1:-1]] for line in lines):
        for place, answer in enumerate(found):
            assert shown[place::2] == answer.get((family, depth), ["not run"] * 3)


def answers_on_error(path):
    """The correlations by family and depth."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in path.read_text().splitlines()]
    return {tuple(row[:2]): row[5:8] for row in rows if len(row) == 9 and row[2] == ERROR}


def committed(runs):
    """By seed, no more of a record than an answer needs."""
    return {
        run["seed"]: SimpleNamespace(
            status=run["status"],
            result={"test_error": run[ERROR]},
            metrics=[{"train_loss": run["training loss"]}],
        )
        for run in runs.to_dict("records")
    }
