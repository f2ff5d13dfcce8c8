"""Weights & Biases mirrors the ledger, value by value, and whatever happens to it no run is touched."""

import csv
import json
import time

import pytest

from benchmark.errors import UserError
from benchmark.tracking import SUMMARY, TrackingOptions
from tests.faults.test_stops import KILLED, TRAIN, assert_same, run_to_the_end
from tests.faults.wandb_files import read_offline_run

NO_KEY = {"WANDB_API_KEY": "", "HOME": "/nonexistent"}


def offline_runs(results, name):
    return [read_offline_run(path) for path in sorted(results.glob(f"wandb/offline-run-*/run-{name}*.wandb"))]


def ledger(results):
    (folder,) = results.glob("runs/*/*/")
    with (folder / "metrics.csv").open() as file:
        rows = {int(row["epoch"]): {k: float(v) for k, v in row.items()} for row in csv.DictReader(file)}
    return rows, json.loads((folder / "result.json").read_text())


@pytest.fixture(scope="module")
def uninterrupted(command, tmp_path_factory):
    return run_to_the_end(command, tmp_path_factory.mktemp("uninterrupted"), TRAIN)[1]


def assert_mirrored(run, results):
    rows, result = ledger(results)
    assert {step: {k: row[k] for k in rows[step]} for step, row in run.history.items()} == rows
    assert run.identity.run_id == result["run_id"]
    assert run.identity.run_group == "quickstart"
    assert run.identity.job_type == "feedforward:method=heavy_ball,depth=4@digits"
    assert set(run.identity.tags) == {"short", "digits", "feedforward"}
    assert run.config["recipe"] == result["spec"]["recipe"]
    assert run.config["network"] == result["spec"]["network"]
    assert {ours: run.summary.get(theirs) for ours, theirs in SUMMARY.items()} == {
        name: result[name] for name in SUMMARY
    }
    assert [artifact.type for artifact in run.artifacts] == ["model"]


def test_an_offline_run_holds_what_the_ledger_holds(command, tmp_path, uninterrupted):
    ended = command(*TRAIN, "--results-dir", tmp_path, "--wandb", "offline", environment=NO_KEY)
    assert ended.status == 0, ended.err
    assert ended.err == ""
    (run,) = offline_runs(tmp_path, "feedforward")
    assert_mirrored(run, tmp_path)
    assert_same(tmp_path, uninterrupted)
    (table,) = offline_runs(tmp_path, "quickstart-table")
    assert table.history[0]["runs/nrows"] == 1


def test_a_run_that_is_continued_keeps_its_id_and_has_every_epoch(command, tmp_path, uninterrupted):
    words = (*TRAIN, "--results-dir", tmp_path, "--wandb", "offline")
    assert command(*words, injection=("kill_between_metrics_and_checkpoint", 5)).status == KILLED
    assert command(*words).status == 0
    first, second = sorted(tmp_path.glob("wandb/offline-run-*/run-feedforward*.wandb"))
    assert first.name == second.name
    assert_mirrored(read_offline_run(second), tmp_path)
    assert_same(tmp_path, uninterrupted)


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        (NO_KEY, "No API key configured"),
        ({**NO_KEY, "WANDB_API_KEY": "0" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9"}, "connection refused"),
    ],
    ids=["no key", "no network"],
)
def test_without_key_or_network_runs_are_kept_offline(command, tmp_path, uninterrupted, environment, reason):
    started = time.monotonic()
    ended = command(*TRAIN, "--results-dir", tmp_path, "--wandb", "online", environment=environment)
    assert ended.status == 0, ended.err
    (warning,) = ended.err.splitlines()
    assert warning.startswith("warning: W&B: ")
    assert reason in warning
    assert f"`wandb sync {tmp_path}/wandb/offline-run-*`" in warning
    (run,) = offline_runs(tmp_path, "feedforward")
    assert_mirrored(run, tmp_path)
    assert_same(tmp_path, uninterrupted)
    assert time.monotonic() - started < 120  # no endless wait; 12 s of it are the time to connect


def test_a_service_that_dies_midway_costs_a_warning(command, tmp_path, uninterrupted):
    ended = command(*TRAIN, "--results-dir", tmp_path, "--wandb", "offline", injection=("kill_wandb", 3))
    assert ended.status == 0, ended.err
    warnings = [line for line in ended.err.splitlines() if line.startswith("warning: W&B: ")]
    assert len(warnings) == 1
    assert "going on without it" in warnings[0]
    assert_same(tmp_path, uninterrupted)


def test_an_unknown_mode():
    with pytest.raises(UserError, match="unknown --wandb 'maybe'; valid: off, online, offline"):
        TrackingOptions("maybe")


def test_off_leaves_nothing(command, tmp_path):
    assert command(*TRAIN, "--results-dir", tmp_path).status == 0
    assert not (tmp_path / "wandb").exists()
