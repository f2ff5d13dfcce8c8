"""Whatever stops a run, the same command goes on, and its results are those of a run that nothing stopped."""

import json
import random
import re
import shutil
import signal
import time
from itertools import product
from pathlib import Path

import pytest
import torch

from lightning_modules import LitClassifier


def train(network):
    return ("run", "quickstart", "--seeds", "0", "--network", network)


TRAIN = train("feedforward:method=heavy_ball,depth=4")
KILLED = -9
LAST_EPOCH = 11


def kept(results):
    """Final weights, the result, and every metric but the clock's."""
    (folder,) = results.glob("runs/quickstart/*/")
    (checkpoint,) = folder.glob("checkpoints/*.ckpt")
    weights = LitClassifier.load_from_checkpoint(checkpoint).network.state_dict()
    rows = [line.split(",")[:6] for line in (folder / "metrics.csv").read_text().splitlines()]
    result = json.loads((folder / "result.json").read_text())
    names = ("status", "test_error", "test_loss", "coefficients", "gradient_norms")
    return weights, rows, {name: result[name] for name in names}


def assert_same(results, expected):
    weights, rows, result = kept(results)
    assert result == expected[2]
    assert rows == expected[1]
    assert all(torch.equal(value, expected[0][name]) for name, value in weights.items())


def run_to_the_end(command, results, words):
    """Seconds, and what is kept."""
    started = time.monotonic()
    ended = command(*words, "--results-dir", results)
    assert ended.status == 0, ended.err
    return time.monotonic() - started, kept(results)


@pytest.fixture(scope="module")
def uninterrupted(command, tmp_path_factory):
    return run_to_the_end(command, tmp_path_factory.mktemp("uninterrupted"), TRAIN)[1]


@pytest.mark.parametrize(
    ("network", "at_least"),
    [
        ("feedforward:method=heavy_ball,depth=4", 2),
        pytest.param("cifar_hbnet20:depth=14", 12, marks=pytest.mark.slow),
        pytest.param("cifar_agdnet40:depth=10,coefficients=learned,dropout=0.2", 12, marks=pytest.mark.slow),
    ],
)
def test_killed_at_random_moments(command, tmp_path, network, at_least):
    """At any moment from the start to the tables."""
    seconds, expected = run_to_the_end(command, tmp_path / "uninterrupted", train(network))
    draw, kills, runs = random.Random(0), 0, 0
    while kills < at_least:
        runs += 1
        words = (*train(network), "--results-dir", tmp_path / str(runs))
        while (ended := command(*words, after=draw.uniform(0, seconds))).status == KILLED:
            kills += 1
        assert ended.status == 0, ended.err
        assert_same(tmp_path / str(runs), expected)


FAULTS = ["kill_while_recording", "kill_between_metrics_and_checkpoint", "kill_while_saving"]
EPOCHS = [0, 4, LAST_EPOCH]


def fast(*cases, of):
    """All cases, of which those that are not named here are slow."""
    return [case if case in cases else pytest.param(*case, marks=pytest.mark.slow) for case in of]


@pytest.mark.parametrize(
    ("fault", "epoch"), fast(*zip(FAULTS, EPOCHS, strict=True), of=list(product(FAULTS, EPOCHS)))
)
def test_killed_while_an_epoch_is_saved(command, tmp_path, uninterrupted, fault, epoch):
    """``$TMPDIR`` lies on another filesystem: nothing is renamed across."""
    elsewhere = {"TMPDIR": "/dev/shm"} if Path("/dev/shm").is_dir() else {}
    words = (*TRAIN, "--results-dir", tmp_path)
    assert command(*words, injection=(fault, epoch), environment=elsewhere).status == KILLED
    (folder,) = tmp_path.glob("runs/*/*/")
    saved = sorted(path.name for path in folder.glob("checkpoints/*.ckpt"))
    assert saved == [f"epoch-{k:04d}.ckpt" for k in range(max(0, epoch - 2), epoch)]
    assert len(list(folder.rglob("*.tmp"))) == (fault != "kill_between_metrics_and_checkpoint")
    ended = command(*words, environment=elsewhere)
    assert ended.status == 0, ended.err
    assert not list(folder.rglob("*.tmp"))
    assert_same(tmp_path, uninterrupted)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM], ids=lambda s: s.name)
def test_a_signal_stops_after_the_step_and_the_next_call_continues(command, tmp_path, uninterrupted, stop):
    words = (*TRAIN, "--results-dir", tmp_path)
    saved = tmp_path / "runs/*/*/checkpoints/epoch-0003.ckpt"
    ended = command(*words, injection=("linger", 4, 0.05), exists=saved, send=stop)
    assert ended.status == 130
    assert ended.err.strip() == "interrupted; the same command continues"
    (path,) = tmp_path.glob("runs/*/*/result.json")
    assert json.loads(path.read_text())["status"] == "interrupted"
    saved = len(list(path.parent.glob("checkpoints/*.ckpt")))
    assert saved in (2, 3)  # 3 if it came before the oldest was removed
    ended = command(*words)
    assert ended.status == 0, ended.err
    assert_same(tmp_path, uninterrupted)


def flip(path, position):
    data = bytearray(path.read_bytes())
    data[int(position * len(data))] ^= 4
    path.write_bytes(bytes(data))


def cut(path, position):
    path.write_bytes(path.read_bytes()[: int(position * path.stat().st_size)])


@pytest.mark.parametrize(
    ("damage", "position"),
    fast((flip, 0.7), (cut, 0.3), of=list(product((flip, cut), (0.02, 0.3, 0.7)))),
)
def test_a_damaged_checkpoint_falls_back_to_the_one_before(command, tmp_path, uninterrupted, damage, position):
    words = (*TRAIN, "--results-dir", tmp_path)
    assert command(*words, injection=("kill_between_metrics_and_checkpoint", 5)).status == KILLED
    _, last = sorted(tmp_path.glob("runs/*/*/checkpoints/*.ckpt"))
    damage(last, position)
    ended = command(*words)
    assert ended.status == 0, ended.err
    assert f"{last} cannot be read" in ended.err
    assert "trying the one before" in ended.err
    assert_same(tmp_path, uninterrupted)


def test_two_damaged_checkpoints_end_the_run_and_nothing_starts_over(command, tmp_path):
    words = (*TRAIN, "--results-dir", tmp_path)
    assert command(*words, injection=("kill_between_metrics_and_checkpoint", 5)).status == KILLED
    (metrics,) = tmp_path.glob("runs/*/*/metrics.csv")
    before = metrics.read_bytes()
    for path in tmp_path.glob("runs/*/*/checkpoints/*.ckpt"):
        flip(path, 0.5)
    ended = command(*words)
    assert ended.status == 1
    assert "no checkpoint in" in ended.err
    assert metrics.read_bytes() == before


def test_no_checkpoint_beside_metrics_ends_the_run_and_nothing_starts_over(command, tmp_path):
    words = (*TRAIN, "--results-dir", tmp_path)
    assert command(*words, injection=("kill_between_metrics_and_checkpoint", 5)).status == KILLED
    (metrics,) = tmp_path.glob("runs/*/*/metrics.csv")
    before = metrics.read_bytes()
    shutil.rmtree(metrics.parent / "checkpoints")
    ended = command(*words)
    assert ended.status == 1
    assert f"metrics.csv has 6 epochs and there is no checkpoint; remove {metrics.parent}" in ended.err
    assert metrics.read_bytes() == before


@pytest.mark.parametrize(("change", "epoch"), [("edited", LAST_EPOCH), ("gone", 5)])
def test_metrics_that_are_edited_or_lost_before_a_run_goes_on_are_as_they_were(
    command, tmp_path, uninterrupted, change, epoch
):
    words = (*TRAIN, "--results-dir", tmp_path)
    fault = ("exit_before_the_record",) if epoch == LAST_EPOCH else ("kill_while_saving", epoch)
    assert command(*words, injection=fault).status in (0, KILLED)
    (metrics,) = tmp_path.glob("runs/*/*/metrics.csv")
    if change == "gone":
        metrics.unlink()
    else:
        metrics.write_text(re.sub(r"(?m)^2,[^,]*", "2,0.125", metrics.read_text()))
    ended = command(*words)
    assert ended.status == 0, ended.err
    assert_same(tmp_path, uninterrupted)


@pytest.mark.parametrize("name", ["epoch-0005.ckpt", pytest.param("epoch-0099.ckpt", marks=pytest.mark.slow)])
def test_a_checkpoint_of_another_run_or_epoch_is_passed_over(command, tmp_path, uninterrupted, name):
    words = (*TRAIN, "--results-dir", tmp_path / "results")
    other = [word if word != "0" else "1" for word in TRAIN]
    assert command(*words, injection=("kill_between_metrics_and_checkpoint", 5)).status == KILLED
    assert command(*other, "--results-dir", tmp_path / "other", injection=("kill_while_saving", 7)).status == KILLED
    (folder,) = tmp_path.glob("results/runs/*/*/checkpoints")
    source = tmp_path / "other" if name == "epoch-0005.ckpt" else tmp_path / "results"
    shutil.copy(max(source.glob("runs/*/*/checkpoints/*.ckpt")), folder / name)
    ended = command(*words)
    assert ended.status == 0, ended.err
    reason = "it is of another run, feedforward" if name == "epoch-0005.ckpt" else "it is of epoch 4"
    assert f"{folder / name} cannot be read ({reason}" in ended.err
    assert_same(tmp_path / "results", uninterrupted)


def test_a_signal_after_the_record_leaves_it(command, tmp_path, uninterrupted):
    words = (*TRAIN, "--results-dir", tmp_path)
    ended = command(*words, injection=("signal_after_the_record",))
    assert ended.status == 130
    assert ended.err.strip() == "interrupted; the same command continues"
    assert command(*words).status == 0
    assert_same(tmp_path, uninterrupted)


def test_a_full_disk_fails_the_run_and_leaves_what_was_measured(command, tmp_path, uninterrupted):
    words = (*TRAIN, "--results-dir", tmp_path)
    ended = command(*words, injection=("limit_files", 50_000, 5))
    assert ended.status == 1
    (folder,) = tmp_path.glob("runs/*/*/")
    result = json.loads((folder / "result.json").read_text())
    assert result["status"] == "failed"
    assert "File too large" in result["reason"]
    assert [p.name for p in sorted(folder.glob("checkpoints/*"))] == ["epoch-0003.ckpt", "epoch-0004.ckpt"]
    assert len((folder / "metrics.csv").read_text().splitlines()) == 1 + 6
    ended = command(*words)
    assert ended.status == 0, ended.err
    assert_same(tmp_path, uninterrupted)


def test_no_room_for_metrics_fails_the_run_too(command, tmp_path, uninterrupted):
    """metrics.csv outgrows the limit; the record of the failure is shorter."""
    words = (*TRAIN, "--results-dir", tmp_path)
    ended = command(*words, injection=("limit_files", 600, 5))
    assert ended.status in (1, 2)
    assert "File too large" in ended.err
    (metrics,) = tmp_path.glob("runs/*/*/metrics.csv")
    assert len(metrics.read_text().splitlines()) == 1 + 5
    ended = command(*words)
    assert ended.status == 0, ended.err
    assert_same(tmp_path, uninterrupted)


def test_an_exit_without_a_record_is_not_done(command, tmp_path, uninterrupted):
    words = (*TRAIN, "--results-dir", tmp_path)
    assert command(*words, injection=("exit_before_the_record",)).status == 0
    assert not list(tmp_path.glob("runs/*/*/result.json"))
    refused = command("tables", "quickstart", "--results-dir", tmp_path)
    assert refused.status == 2
    assert "no finished runs" in refused.err
    assert command(*words).status == 0
    assert_same(tmp_path, uninterrupted)
