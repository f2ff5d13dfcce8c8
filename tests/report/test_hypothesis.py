"""The answer follows from the records: means by method and depth, and the sign of the rank correlation."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from benchmark.errors import UserError
from benchmark.experiments import get_experiment
from benchmark.experiments.hypothesis import HYPOTHESIS_CIFAR, HYPOTHESIS_DIGITS, METHODS
from benchmark.report.hypothesis import MEASURES, QUANTITIES, Expected, Family, correlations, read_families, steps
from benchmark.report.hypothesis_plots import write_hypothesis_plots
from benchmark.report.hypothesis_tables import write_hypothesis_tables
from benchmark.report.layout import NOTHING, signed
from benchmark.report.sections import read_sections
from benchmark.reports import expected_of_methods
from benchmark.theory import convergence
from lightning_modules.networks import create_network
from tests.report.conftest import make_cell

TABLES = Path(__file__).parents[2] / "results" / "tables"
PLACES = [("shared", depth) for depth in (5, 10)]
EXPECTED = {
    m: Expected(0.9 - 0.05 * i, [1 - 0.01 * i] * 41, dict.fromkeys(PLACES, 0.1 * i)) for i, m in enumerate(METHODS)
}
TITLES = {method: method for method in METHODS}


@pytest.fixture
def add(add_run):
    def add(row, error, seed=0, **options):
        cell = make_cell(HYPOTHESIS_DIGITS, row, "digits", "short", "digits")
        return add_run(row, error, seed=seed, experiment=HYPOTHESIS_DIGITS, cell=cell, data="digits", **options)

    return add


def fill(add, error):
    """``error(rank of the method's speed, depth, seed)`` for two depths and two seeds."""
    for rank, method in enumerate(METHODS):
        for depth in (5, 10):
            for seed in (0, 1):
                add(f"shared-{method}-{depth}", error(rank, depth, seed), seed)


def families(results):
    (section,) = read_sections(HYPOTHESIS_DIGITS, results)
    return read_families(section, EXPECTED)


def write(results):
    """Tables, then plots."""
    paths = write_hypothesis_tables(HYPOTHESIS_DIGITS, results, EXPECTED, TITLES)
    return paths + write_hypothesis_plots(HYPOTHESIS_DIGITS, results, EXPECTED, TITLES)


@pytest.mark.parametrize(("sign", "rho"), [(-1, 1), (1, -1)])
def test_faster_is_better_has_a_positive_correlation(add, results, sign, rho):
    fill(add, lambda rank, depth, seed: 10 + sign * 0.1 * rank + seed)
    (family,) = families(results)
    for measure in MEASURES:
        found = correlations(family, EXPECTED, measure, "test error (%)")
        assert list(found) == ["5", "10", "all"]
        assert [value.rho for value in found.values()] == pytest.approx([rho] * 3)
        assert correlations(family, EXPECTED, measure, "training loss") == {"5": None, "10": None, "all": None}


def test_fast_in_the_long_run_may_be_slow_at_the_depth(add, results):
    """The distances of 5 steps are ranked the other way round, of 10 steps as the factors."""
    expected = {
        m: Expected(0.9 - 0.05 * i, [0.5 + 0.01 * i] * 6 + [0.5 - 0.01 * i] * 35) for i, m in enumerate(METHODS)
    }
    fill(add, lambda rank, depth, seed: 10 - 0.1 * rank + seed)
    (family,) = families(results)
    found = correlations(family, expected, "distance at the depth", "test error (%)")
    assert (found["5"].rho, found["10"].rho, found["all"]) == (pytest.approx(-1), pytest.approx(1), None)
    assert (steps("shared", 10), steps("convolutional", 20)) == (10, 3)


def test_means_are_over_seeds_and_methods_go_from_slow_to_fast(add, results):
    fill(add, lambda rank, depth, seed: 10 + rank + 2 * seed + depth)
    (family,) = families(results)
    assert family.methods == tuple(METHODS)
    summary = family.summary("heavy_ball", 10, "test error (%)")
    assert (summary.mean, summary.n) == (22.0, 2)


def test_tables_say_what_the_runs_say(add, results):
    fill(add, lambda rank, depth, seed: 10 - rank + 2 * seed)
    paths = write(results)
    names = [path.name for path in paths]
    assert names == [f"hypothesis-digits-short{end}" for end in (".md", ".csv", "-runs.csv", ".svg", ".png")]
    text = paths[0].read_text()
    assert "| shared   | test error (%) | limiting factor       | +1.00 (n = 8)" in text
    assert "| gradient_descent         | 0.900            | 11.00 ± 12.71 | 11.00 ± 12.71 |" in text
    assert "missing 2, 3, 4" in text
    networks, runs = pd.read_csv(paths[1]), pd.read_csv(paths[2])
    assert len(networks) == 16
    assert len(runs) == 32
    means = runs.groupby(["method", "layers"])["test error (%)"].mean()
    for row in networks.to_dict("records"):
        assert row["test error (%) mean"] == pytest.approx(means[row["method"], row["layers"]])


def test_the_same_records_give_the_same_bytes(add, results):
    fill(add, lambda rank, depth, seed: 10 - rank + 2 * seed)
    paths = write(results)
    before = [path.read_bytes() for path in paths]
    assert [path.read_bytes() for path in write(results)] == before


def test_a_run_that_diverged_is_named_and_in_no_mean(add, results):
    fill(add, lambda rank, depth, seed: 10 - rank)
    add("shared-triple_momentum-20", None, status="diverged")
    add("shared-gradient_descent-20", 5.0)
    (family,) = families(results)
    assert family.summary("triple_momentum", 20, "test error (%)") is None
    text = write(results)[0].read_text()
    assert "diverged" in text
    assert "nan" not in text


def test_a_family_that_diverged_and_a_perfect_baseline_are_drawn(add, results):
    fill(add, lambda rank, depth, seed: 0.0)
    add("free-triple_momentum-20", None, status="diverged")
    assert len(write(results)) == 5


def test_only_rows_of_the_users_own(add_run, results):
    cell = make_cell(HYPOTHESIS_DIGITS, "feedforward:depth=2", "digits", "short", "digits")
    add_run(cell=cell, data="digits")
    with pytest.raises(UserError, match=r"no finished runs of 'hypothesis-digits'.* of its own rows"):
        write(results)


def test_no_runs(results):
    with pytest.raises(UserError, match="no finished runs of 'hypothesis-digits'"):
        write(results)


@pytest.mark.parametrize("experiment", [HYPOTHESIS_DIGITS, HYPOTHESIS_CIFAR], ids=lambda e: e.name)
def test_every_row_is_a_network(experiment):
    assert get_experiment(experiment.name) is experiment
    for row in experiment.rows:
        network = create_network(row.network.name, **row.network.options)
        assert all(not name.endswith(("beta", "momentum", "step_size")) for name, _ in network.named_parameters())


def committed_families(path):
    """The families of a committed table of runs, with no more of a record than a correlation needs."""
    records: dict[str, dict[tuple[str, int], list]] = {}
    for run in pd.read_csv(path).to_dict("records"):
        result, metrics = {"test_error": run["test error (%)"]}, [{"train_loss": run["training loss"]}]
        record = SimpleNamespace(status="done", result=result, metrics=metrics)
        records.setdefault(run["family"], {}).setdefault((run["method"], run["layers"]), []).append(record)
    return [
        Family(name, tuple(METHODS), tuple(sorted({depth for _, depth in found})), found)
        for name, found in records.items()
    ]


def committed_expected(path):
    """With the images left that the table has: another machine may rank the smallest differences otherwise."""
    networks = pd.read_csv(path)
    expected = dict(expected_of_methods())
    for method, lines in networks.dropna(subset="images left").groupby("method"):
        places = zip(lines["family"], lines["layers"], strict=True)
        left = dict(zip(places, lines["images left"], strict=True))
        assert expected[method].images_left == pytest.approx(left, rel=1e-3, abs=1e-6)
        expected[method] = replace(expected[method], images_left=left)
    return expected


@pytest.mark.parametrize("name", ["hypothesis-digits-short", "hypothesis-cifar-short-jpeg-copy"])
def test_the_committed_correlations_follow_from_the_committed_runs(name):
    lines = (TABLES / f"{name}.md").read_text().split("\n## ")[1].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    shown = {tuple(first): last.partition(" ")[0] for *first, last in ((*row[:3], row[-1]) for row in cells[2:])}
    expected = committed_expected(TABLES / f"{name}.csv")
    found = {
        (family.name, quantity, measure): signed(value.rho) if value else NOTHING
        for family in committed_families(TABLES / f"{name}-runs.csv")
        for quantity in QUANTITIES
        for measure in MEASURES
        for value in [correlations(family, expected, measure, quantity)["all"]]
    }
    assert shown == found


def test_methods_are_those_whose_convergence_is_measured():
    assert (
        set(METHODS)
        == set(convergence.METHODS)
        == {row["method"] for row in convergence.measure(["quadratic"], [10], layers=4)}
    )
