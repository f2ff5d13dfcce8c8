"""What a run measures of itself."""

import math

import pytest
import torch

from benchmark import energy, grid, machine, run
from benchmark.checkpoints import list_checkpoints
from benchmark.experiments import get_experiment
from benchmark.ledger import RunFolder, read_records
from lightning_modules.classifier import DivergedError


def test_energy_that_one_epoch_lacks_is_unknown(monkeypatch, tmp_path):
    ((cell, _),) = grid.select_cells(get_experiment("quickstart"), tmp_path, "cpu", "smoke", only=["plain14"])
    readings = iter([0.0, 1.5, 1.5, 4.0, 0.0, 1.0, None, None])
    counters = ([] if joules is None else [energy.Counter(joules)] for joules in readings)
    monkeypatch.setattr(energy, "INTERVAL", math.inf)
    monkeypatch.setattr(energy, "read_counters", lambda device: next(counters))
    results = [run.execute(RunFolder(tmp_path, cell, seed), tmp_path, "cpu", lambda row: None) for seed in (0, 1)]
    assert [result["joules"] for result in results] == [4.0, None]
    assert [row["joules"] for row in RunFolder(tmp_path, cell, 0).read_metrics()] == [1.5, 2.5]


@pytest.fixture
def folder(tmp_path):
    ((cell, _),) = grid.select_cells(get_experiment("quickstart"), tmp_path, "cpu", "smoke", only=["plain14"])
    return RunFolder(tmp_path, cell, 0)


def train_one_epoch(folder, root):
    def stop(row):
        if row["epoch"] == 1:
            raise KeyboardInterrupt

    with pytest.raises(run.InterruptedRun):
        run.execute(folder, root, "cpu", stop)


def test_a_run_that_goes_on_elsewhere_names_each_part(folder, tmp_path, monkeypatch):
    here = machine.environment("cpu")
    there = {"device": "GPU: NVIDIA H200", "versions": {"torch": "2.9.0"}, "git": {"commit": "abc", "dirty": False}}
    monkeypatch.setattr(machine, "environment", lambda *place: there)
    train_one_epoch(folder, tmp_path)
    monkeypatch.setattr(machine, "environment", lambda *place: here)
    result = run.execute(folder, tmp_path, "cpu", lambda row: None)
    assert result["parts"] == [{**there, "epochs": 1}, {**here, "epochs": result["epochs"] - 1}]
    (record,) = read_records(tmp_path, "quickstart")
    assert record.device == f"GPU: NVIDIA H200 and {here['device']}"
    assert record.commits[0] == "abc"


def test_a_run_that_diverges_elsewhere_names_each_part(folder, tmp_path, monkeypatch):
    here = machine.environment("cpu")
    train_one_epoch(folder, tmp_path)
    monkeypatch.setattr(machine, "environment", lambda *place: {**here, "device": "CPU: another"})

    def diverge(row):
        raise DivergedError("loss is nan")

    result = run.execute(folder, tmp_path, "cpu", diverge)
    assert result["status"] == "diverged"
    assert [(part["device"], part["epochs"]) for part in result["parts"]] == [
        (here["device"], 1),
        ("CPU: another", 1),
    ]


def test_a_run_that_goes_on_as_it_was_has_no_parts(folder, tmp_path):
    train_one_epoch(folder, tmp_path)
    assert "parts" not in run.execute(folder, tmp_path, "cpu", lambda row: None)


def test_a_run_that_is_only_tested_elsewhere_names_that_part(folder, tmp_path, monkeypatch):
    here = machine.environment("cpu")
    at_the_start = iter([{}])
    monkeypatch.setattr(run, "learned_coefficients", lambda network: next(at_the_start))
    assert run.execute(folder, tmp_path, "cpu", lambda row: None)["status"] == "failed"  # after its last epoch
    monkeypatch.undo()
    monkeypatch.setattr(machine, "environment", lambda *place: {**here, "device": "CPU: another"})
    parts = run.execute(folder, tmp_path, "cpu", lambda row: None)["parts"]
    assert [(part["device"], part["epochs"] > 0) for part in parts] == [
        (here["device"], True),
        ("CPU: another", False),
    ]


def test_a_checkpoint_without_parts_is_of_an_unknown_environment(folder, tmp_path):
    train_one_epoch(folder, tmp_path)
    (path,) = list_checkpoints(folder.checkpoints)
    checkpoint = torch.load(path, weights_only=True)
    del checkpoint["run"]["parts"]
    torch.save(checkpoint, path)
    result = run.execute(folder, tmp_path, "cpu", lambda row: None)
    assert result["parts"] == [{"epochs": 1}, {**machine.environment("cpu"), "epochs": result["epochs"] - 1}]
    (record,) = read_records(tmp_path, "quickstart")
    assert record.device == f"unknown and {machine.environment('cpu')['device']}"
