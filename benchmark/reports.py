"""Tables, plots and the page, made from records as a command asks. Imports no torch until it must."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.errors import UserError
from benchmark.experiments import EXPERIMENTS
from benchmark.specs import Experiment, Row

if TYPE_CHECKING:
    from benchmark.report.hypothesis import Expected

PAPER = Path(__file__).parents[1] / "results" / "paper"


def report(experiment: Experiment, results: Path, sort: str | None = None, descending: bool = False) -> int:
    text = _sorted_text(experiment, results, sort, descending)
    paths = _write_report(experiment, results)
    texts = [text] if text else [path.read_text(encoding="utf-8") for path in paths if path.suffix == ".md"]
    print("\n".join(texts))
    print("wrote " + ", ".join(map(str, paths)))
    return 0


def _sorted_text(experiment: Experiment, results: Path, sort: str | None, descending: bool) -> str | None:
    """The tables in another order for the terminal; None if none was asked for."""
    if sort is None:
        if descending:
            raise UserError("--descending needs --sort COLUMN")
        return None
    if experiment.report != "comparison":
        raise UserError(f"--sort orders tables with one line a row; the report on {experiment.name} has none")

    from benchmark.report.tables import console_text

    return console_text(experiment, results, PAPER, sort, descending)


def report_all(results: Path) -> int:
    from benchmark.report.page import read_groups, write_page

    groups = read_groups(EXPERIMENTS.values(), results)
    written = {g.experiment.name: _write_report(g.experiment, results) for g in groups if g.is_tabulated}
    page = write_page(results, groups, written, PAPER)
    print("wrote " + ", ".join(map(str, [*(path for paths in written.values() for path in paths), page])))
    return 0


def _write_report(experiment: Experiment, results: Path) -> list[Path]:
    """Make an experiment's tables and plots from its records."""
    kinds = {"comparison": _write_comparison, "hypothesis": _write_hypothesis, "momentum": _write_momentum}
    return kinds[experiment.report](experiment, results)


def _write_hypothesis(experiment: Experiment, results: Path) -> list[Path]:
    from benchmark.report.hypothesis_plots import write_hypothesis_plots
    from benchmark.report.hypothesis_tables import write_hypothesis_tables
    from benchmark.theory import convergence

    titles = {name: method.title for name, method in convergence.METHODS.items()}
    expected = expected_of_methods()
    paths = write_hypothesis_tables(experiment, results, expected, titles)
    return paths + write_hypothesis_plots(experiment, results, expected, titles)


@cache
def expected_of_methods() -> Mapping[str, "Expected"]:
    """Of the hypothesis' methods, on the quadratic that its networks' W has at the start."""
    from benchmark.experiments.hypothesis import DEPTHS, FEEDFORWARD, METHODS, MU
    from benchmark.report.hypothesis import Expected, place_of
    from benchmark.theory.speed import LIMITS, distances
    from lightning_modules.networks.feedforward import start_eigenvalues

    eigenvalues = start_eigenvalues(1 - MU).double()
    left: dict[str, dict[tuple[str, int], float]] = {name: {} for name in METHODS}
    for row in FEEDFORWARD:
        family, method, depth = place_of(row.key)
        left[method][family, depth] = _images_left(row)
    return {
        name: Expected(LIMITS[name](MU), distances(name, constants, eigenvalues, max(DEPTHS)), left[name])
        for name, constants in METHODS.items()
    }


def _write_momentum(experiment: Experiment, results: Path) -> list[Path]:
    from benchmark.report.momentum_plots import write_momentum_plots
    from benchmark.report.momentum_tables import write_momentum_tables

    expected = expected_of_betas()
    paths = write_momentum_tables(experiment, results, expected)
    return paths + write_momentum_plots(experiment, results, expected)


@cache
def expected_of_betas() -> Mapping[float, "Expected"]:
    """Of the momentum experiments' heavy balls, likewise."""
    from benchmark.experiments.hypothesis import FIXED, MU
    from benchmark.experiments.momentum import BETAS, FEEDFORWARD_DEPTHS, MOMENTUM_CIFAR
    from benchmark.report.hypothesis import Expected
    from benchmark.report.momentum import place_of
    from benchmark.theory.speed import distances, heavy_ball_limit
    from lightning_modules.networks.feedforward import start_eigenvalues

    eigenvalues = start_eigenvalues(1 - MU).double()
    most = max(max(depths) for depths in FEEDFORWARD_DEPTHS.values())
    left: dict[float, dict[tuple[str, int], float]] = {beta: {} for beta in BETAS}
    for row in MOMENTUM_CIFAR.rows:
        family, depth, beta = place_of(row.key)
        left[beta][family, depth] = _images_left(row)
    return {
        beta: Expected(
            heavy_ball_limit(beta, eigenvalues),
            distances("heavy_ball", {**FIXED, "beta": beta}, eigenvalues, most),
            left[beta],
        )
        for beta in BETAS
    }


def _images_left(row: Row) -> float:
    from benchmark.experiments.hypothesis import SEEDS
    from benchmark.theory.images_left import images_left_at_start
    from lightning_modules.networks import create_network

    return images_left_at_start(lambda: create_network(row.network.name, **row.network.options), SEEDS)


def _write_comparison(experiment: Experiment, results: Path) -> list[Path]:
    from benchmark.report.coefficient_plots import write_coefficients
    from benchmark.report.cost_plots import write_costs
    from benchmark.report.curve_plots import write_learning_curves
    from benchmark.report.difference_plots import write_differences
    from benchmark.report.gradient_plots import write_gradients
    from benchmark.report.step_table_plots import write_learned_tables
    from benchmark.report.tables import write_tables

    plots = (
        write_learning_curves,
        write_differences,
        write_costs,
        write_coefficients,
        write_learned_tables,
        write_gradients,
    )
    paths = write_tables(experiment, results, PAPER)
    for write in plots:
        paths += write(experiment, results)
    return paths
