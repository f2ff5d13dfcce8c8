"""Weights & Biases mirrors the ledger, value by value, and whatever happens to it no run is touched."""

import contextlib
import csv
import http.server
import json
import os
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from benchmark.errors import UserError
from benchmark.experiments import get_experiment
from benchmark.ledger import RunFolder
from benchmark.tracking import SUMMARY, Tracker, TrackingOptions
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
    return run_to_the_end(command, tmp_path_factory.mktemp("uninterrupted"), TRAIN)


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
    assert_same(tmp_path, uninterrupted[1])
    (table,) = offline_runs(tmp_path, "quickstart-table")
    assert table.history[0]["runs/nrows"] == 1


def test_a_run_that_is_continued_keeps_its_id_and_has_every_epoch(command, tmp_path, uninterrupted):
    words = (*TRAIN, "--results-dir", tmp_path, "--wandb", "offline")
    assert command(*words, injection=("kill_between_metrics_and_checkpoint", 5)).status == KILLED
    ended = command(*words)
    assert (ended.status, ended.err) == (0, "")
    first, second = sorted(tmp_path.glob("wandb/offline-run-*/run-feedforward*.wandb"))
    assert first.name == second.name
    assert_mirrored(read_offline_run(second), tmp_path)
    assert_same(tmp_path, uninterrupted[1])


class Answers(http.server.BaseHTTPRequestHandler):
    """A server that W&B gets an answer from, and no more."""

    def do_GET(self):
        self.send_error(404)

    def do_POST(self):
        time.sleep(60)

    def log_message(self, *_):
        pass


@pytest.fixture
def answering():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        server.daemon_threads = True
        server.block_on_close = False
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def silent():
    """Takes every connection and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def assert_kept_offline(command, results, uninterrupted, environment, reason):
    """One warning, everything mirrored, and at most 30 s more than without W&B."""
    started = time.monotonic()
    ended = command(*TRAIN, "--results-dir", results, "--wandb", "online", environment={**NO_KEY, **environment})
    seconds = time.monotonic() - started
    assert ended.status == 0, ended.err
    warnings = [line for line in ended.err.splitlines() if "[wandb.login()] Loaded credentials" not in line]
    assert len(warnings) == 1, ended.err
    (warning,) = warnings
    assert warning.startswith("warning: W&B: ")
    assert reason in warning
    assert f"`wandb sync '{results}'/wandb/offline-run-*`" in warning
    (run,) = offline_runs(results, "feedforward")
    assert_mirrored(run, results)
    assert_same(results, uninterrupted[1])
    assert seconds - uninterrupted[0] < 30


def test_without_a_key_runs_are_kept_offline(command, tmp_path, uninterrupted, answering):
    environment = {"WANDB_BASE_URL": answering}
    assert_kept_offline(command, tmp_path / "a b", uninterrupted, environment, "No API key configured")


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("http://127.0.0.1:9", "cannot be reached: [Errno 111] Connection refused"),
        pytest.param("http://nowhere.invalid", "nowhere.invalid", marks=pytest.mark.slow),
        pytest.param("silent", "does not answer within 5 s", marks=pytest.mark.slow),
        pytest.param("answering", "", marks=pytest.mark.slow),
    ],
    ids=["refused", "unknown name", "silent", "silent later"],
)
def test_without_network_runs_are_kept_offline(command, tmp_path, uninterrupted, request, address, reason):
    url = address if "/" in address else request.getfixturevalue(address)
    environment = {"WANDB_API_KEY": "0" * 40, "WANDB_BASE_URL": url}
    assert_kept_offline(command, tmp_path / "a b", uninterrupted, environment, reason)


def assert_one_warning(ended, text):
    assert ended.status == 0, ended.err
    warnings = [line for line in ended.err.splitlines() if line.startswith("warning: W&B: ")]
    assert len(warnings) == 1
    assert text in warnings[0]


def test_a_service_that_dies_midway_costs_a_warning(command, tmp_path, uninterrupted):
    injection = ("signal_wandb", signal.SIGKILL, 3)
    ended = command(*TRAIN, "--results-dir", tmp_path, "--wandb", "offline", injection=injection)
    assert_one_warning(ended, "going on without it")
    assert_same(tmp_path, uninterrupted[1])


def test_a_service_that_hangs_midway_costs_a_warning(command, tmp_path, uninterrupted):
    words = (*TRAIN, "--results-dir", tmp_path, "--wandb", "offline")
    try:
        ended = command(*words, injection=("hang_wandb", 3), environment={"STARTED_BY": str(tmp_path)})
    finally:
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if f"STARTED_BY={tmp_path}\0".encode() in (process / "environ").read_bytes():
                    os.kill(int(process.name), signal.SIGKILL)
    assert_one_warning(ended, "not sent in 2 s; runs are kept offline")
    assert_same(tmp_path, uninterrupted[1])


def test_an_unknown_mode():
    with pytest.raises(UserError, match="unknown --wandb 'maybe'; valid: off, online, offline"):
        TrackingOptions("maybe")


def test_off_leaves_nothing(command, tmp_path):
    assert command(*TRAIN, "--results-dir", tmp_path).status == 0
    assert not (tmp_path / "wandb").exists()


def test_weights_that_cannot_be_sent_cost_a_warning(tmp_path, monkeypatch, capsys):
    """And W&B stays on for the runs that follow."""
    import wandb

    def refuse(*_):
        raise ValueError("no room")

    monkeypatch.setattr(wandb.Artifact, "add_file", refuse)
    folder = RunFolder(tmp_path, get_experiment("quickstart").cells("short", only=["resnet14"])[0], 0)
    tracker = Tracker(TrackingOptions("offline"), tmp_path)
    tracker.start(folder, "ResNet-14")
    folder.checkpoints.mkdir(parents=True)
    (folder.checkpoints / "epoch-0.ckpt").write_text("weights")
    tracker.end({"status": "done"})
    assert "are not sent" in capsys.readouterr().err
    assert tracker.mode == "offline"
    assert tracker.run is None
