"""Synthetic runs, written the way real ones are."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from benchmark.__main__ import main
from benchmark.experiments.cifar import EXPERIMENT
from benchmark.ledger import RunFolder
from benchmark.report import figures as report_figures
from benchmark.report.page import NAME
from benchmark.specs import Cell, Experiment, NetworkSpec

OFFICIAL, JPEG = "CIFAR-10", "CIFAR-10 (JPEG copy)"
HOSTILE = '<script>alert(1)</script>"><img src="http://example.org/x.png" onerror="alert(2)">'
PAPER = Path(__file__).parents[2] / "results" / "paper"

AddRun = Callable[..., Path]


def make_cell(experiment: Experiment, row: str, dataset: str, profile: str, data: str, **recipe: Any) -> Cell:
    """The cell that a run would have resolved; a row of any name joins."""
    known = experiment.row(row)
    settings = {"precision": "32-true", "compile": False, **recipe}
    return Cell(
        experiment=experiment.name,
        row=row,
        dataset=dataset,
        profile=profile,
        network=known.network if known else NetworkSpec(row),
        data=replace(experiment.datasets[dataset], source=data, checksum=f"sha256 of {data} {dataset}"),
        recipe=replace(experiment.profiles[profile], **settings),
    )


def curve(error: float, epochs: int = 5) -> list[dict[str, float]]:
    """Metrics whose error falls to ``error``."""
    return [
        {
            "epoch": epoch,
            "train_loss": 1.0,
            "train_error": error,
            "eval_loss": 1.0,
            "eval_error": error + 10 * (epochs - 1 - epoch),
            "learning_rate": 0.1,
            "seconds": 2.0,
        }
        for epoch in range(epochs)
    ]


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Figures of sections as they are drawn, and written all the same."""
    drawn, write = [], report_figures.write_figure
    monkeypatch.setattr(
        report_figures, "write_figure", lambda figure, stem: drawn.append(figure) or write(figure, stem)
    )
    return drawn


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    folder.mkdir()
    return folder


def write_run(
    results: Path,
    row: str = "cifar_resnet20",
    error: float | None = 10.0,
    *,
    seed: int = 0,
    dataset: str = "cifar10+",
    profile: str = "paper",
    data: str = OFFICIAL,
    status: str = "done",
    experiment: Experiment = EXPERIMENT,
    cell: Cell | None = None,
    recipe: dict[str, Any] | None = None,
    metrics: list[dict[str, float]] | None = None,
    **values: Any,
) -> Path:
    """Writes a run of the CIFAR experiment (or ``experiment``) and returns its folder."""
    cell = cell or make_cell(experiment, row, dataset, profile, data, **(recipe or {}))
    folder = RunFolder(results, cell, seed)
    folder.write_spec()
    context = {
        "device": "CPU: AMD EPYC, 2 threads",
        "threads": 2,
        "precision": cell.recipe.precision,
        "versions": {"torch": "2.9.0", "pytorch-lightning": "2.6.6"},
        "git": {"commit": "0123456789abcdef", "dirty": False},
    }
    measured = {
        "test_error": error,
        "test_top5_error": 0.5,
        "test_loss": 0.4,
        "best_eval_error": 1.0,
        "parameters": 272_474,
        "multiply_adds": 40_813_184,
        "epochs": 5,
        "seconds": 10.0,
        "seconds_per_epoch": 2.0,
        "images_per_second": 25_000.0,
        "peak_memory_bytes": 10**9,
        "data": {"name": data, "source": "the archive", "checksum": cell.data.checksum},
    }
    if status == "done":
        folder.write_metrics(curve(error) if metrics is None else metrics)
        folder.write_result("done", {**context, **measured, **values})
    else:
        folder.write_result(status, {**context, "reason": f"it {status}", **values})
    return folder.path


@pytest.fixture
def add_run(results: Path) -> AddRun:
    """``write_run``, into ``results`` or elsewhere (``to``)."""
    return lambda *row, to=results, **values: write_run(to, *row, **values)


@pytest.fixture
def report(monkeypatch, capsys, results):
    """Runs the command on the results and returns its exit code, its output and the page."""

    def run(folder=None):
        folder = folder or results
        monkeypatch.setattr(sys, "argv", ["benchmark", "report", "--results-dir", str(folder)])
        with pytest.raises(SystemExit) as stop:
            main()
        page = Path(folder) / NAME
        return stop.value.code or 0, capsys.readouterr(), page.read_text() if page.is_file() else None

    return run


def write_some_runs(results: Path) -> None:
    """Two rows, three seeds; one run that failed, and a smoke run."""
    for seed in range(3):
        write_run(results, "cifar_resnet20", (9.5, 14.98, 10.25)[seed], seed=seed)
    commit = {"commit": "fedcba9876543210", "dirty": True}
    write_run(results, "cifar_hbnet20", 9.75, git=commit, device="GPU: NVIDIA H200")
    write_run(results, "cifar_hbnet20", seed=1, status="failed", reason="OutOfMemoryError: no room")
    write_run(results, "cifar_hbnet20", 90.0, seed=2, profile="smoke")


@pytest.fixture
def some_runs(results: Path) -> Path:
    write_some_runs(results)
    return results
