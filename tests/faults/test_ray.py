"""Grids on a real Ray: the results are the in-process engine's, whatever is killed, and nothing is left running.

Each command is the leader of a session of its own, so that what it started can be found by the session.
"""

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import torch

from benchmark.ray_cluster import QUIET
from lightning_modules import LitClassifier
from tests.faults.conftest import ALONE, ROOT
from tests.faults.wandb_files import read_offline_run

pytest.importorskip("ray")
two_cores = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")

TINY = ("run", "quickstart", "--seeds", "0", "--network", "feedforward:depth=2")
LONGER = ("run", "quickstart", "--seeds", "0", "--only", "hbnet14", "plain14")
SECONDS = 400
TIMES = {"seconds", "seconds_per_epoch", "images_per_second"}
NOT_COMPARED = {*TIMES, "peak_memory_bytes", "git", "metrics_sha256", "sha256"}


@pytest.fixture
def environment():
    """Ray's files in a folder with a short name, as sockets need."""
    folder = tempfile.mkdtemp(prefix="oin-", dir="/tmp")
    yield {**os.environ, **QUIET, **ALONE, "RAY_TMPDIR": folder}
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def start(environment, tmp_path):
    """Starts a command; what is left of it is ended with the test."""
    started = []

    def begin(*command):
        with (tmp_path / "output.txt").open("a") as output:
            process = subprocess.Popen(
                [str(word) for word in command],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        started.append(process)
        return process

    yield begin
    for process in reversed(started):
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(30)
        for left in session(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(left, signal.SIGKILL)
        process.wait(30)


@pytest.fixture
def on_ray(start, tmp_path):
    """Starts our command with ``--engine ray``."""

    def begin(*words):
        return start(
            sys.executable, "-m", "benchmark", *words, "--engine", "ray", "--results-dir", tmp_path / "ray"
        )

    return begin


def session(leader):
    """Ids of the processes of a session that live."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, of = path.read_text().rpartition(")")[2].split()[:4]
            if int(of) == leader and state != "Z":
                found.append(int(path.parent.name))
    return found


def wait_for(found, process=None):
    """What ``found`` returns once it is something."""
    deadline = time.monotonic() + SECONDS
    while not (value := found()):
        assert process is None or process.poll() is None, "ended too early"
        assert time.monotonic() < deadline, "took too long"
        time.sleep(0.01)
    return value


def workers(results):
    """Where runs are trained now, by row."""
    places = {}
    for path in results.glob("runs/*/*/.worker"):
        with contextlib.suppress(OSError, ValueError):
            place = json.loads(path.read_text())
            if "process" in place:
                places[path.parent.name.partition("-")[0]] = place
    return places


def has_trained(results, row, epochs=3):
    """Whether a checkpoint of that many epochs or more is there; earlier ones give way to later ones."""
    found = results.glob(f"runs/*/{row}-*/checkpoints/epoch-*.ckpt")
    return any(int(path.stem.removeprefix("epoch-")) >= epochs for path in found)


def output(tmp_path):
    return (tmp_path / "output.txt").read_text()


def records(results):
    return {path.parent.name: json.loads(path.read_text()) for path in results.glob("runs/*/*/result.json")}


def assert_same(results, expected):
    """Every bit but the clock's and the memory's: records, metrics, weights."""
    ours, theirs = records(results), records(expected)
    assert ours.keys() == theirs.keys()
    for run, result in ours.items():
        assert result.keys() == theirs[run].keys()
        assert not [name for name in result.keys() - NOT_COMPARED if result[name] != theirs[run][name]]
        a, b = (next(folder.glob(f"runs/*/{run}")) for folder in (results, expected))
        rows = [[line.split(",")[:6] for line in (f / "metrics.csv").read_text().splitlines()] for f in (a, b)]
        assert rows[0] == rows[1]
        weights = [
            LitClassifier.load_from_checkpoint(next(f.glob("checkpoints/*.ckpt"))).network.state_dict()
            for f in (a, b)
        ]
        assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert not list(results.glob("runs/*/*/.worker"))


@pytest.fixture(scope="module")
def inline(command, tmp_path_factory):
    """Results of the in-process engine, by the command's words."""
    done = {}

    def results(words):
        if words not in done:
            done[words] = tmp_path_factory.mktemp("inline")
            ended = command(*words, "--results-dir", done[words])
            assert ended.status == 0, ended.err
        return done[words]

    return results


@pytest.mark.slow
def test_a_run_that_fails_is_recorded_once_and_the_other_is_that_of_the_inline_engine(
    on_ray, inline, command, tmp_path
):
    """Metrics without a checkpoint are an error of the run."""
    results, broken = tmp_path / "ray", "feedforward:depth=4"
    words = (*TINY, broken)
    assert command(*words[:4], "--network", broken, "--results-dir", results).status == 0
    (spoiled,) = results.glob("runs/*/*/")
    shutil.rmtree(spoiled / "checkpoints")
    (spoiled / "result.json").unlink()
    process = on_ray(*words)
    assert process.wait(SECONDS) == 1, output(tmp_path)
    result = records(results)[spoiled.name]
    assert result["status"] == "failed"
    assert "there is no checkpoint" in result["reason"]
    lines = output(tmp_path).splitlines()
    starts = sum(f"{broken} on digits, seed 0: on " in line for line in lines)
    assert starts <= 1, "not tried again; one that fails at once may not be seen to start"
    assert lines.count(f"not done: {broken} on digits, seed 0: failed ({result['reason']})") == 1
    shutil.rmtree(spoiled)
    assert_same(results, inline(TINY))
    assert not session(process.pid)


@pytest.mark.parametrize(
    ("address", "error"),
    [("127.0.0.1:1", "error: no Ray answers (127.0.0.1:1); "), ("auto", "error: cannot use the Ray at auto: ")],
)
def test_a_ray_that_does_not_answer_is_a_mistake(on_ray, tmp_path, address, error):
    process = on_ray(*TINY, "--address", address)
    assert process.wait(SECONDS) == 2
    (line,) = output(tmp_path).splitlines()
    assert line.startswith(error)


@two_cores
@pytest.mark.slow
def test_two_at_once_and_a_killed_worker_is_replaced(on_ray, inline, tmp_path):
    results = tmp_path / "ray"
    process = on_ray(*LONGER, "--wandb", "offline")
    at_once = wait_for(lambda: (w := workers(results)).keys() == {"hbnet14", "plain14"} and w, process)
    wait_for(lambda: has_trained(results, "hbnet14"), process)
    os.kill(at_once["hbnet14"]["process"], signal.SIGKILL)
    again = wait_for(
        lambda: (w := workers(results).get("hbnet14")) and w != at_once["hbnet14"] and w["process"], process
    )
    assert again not in [place["process"] for place in at_once.values()]
    assert process.wait(SECONDS) == 0, output(tmp_path)
    assert "HB-Net-14 on digits, seed 0: its worker was lost; continues on" in output(tmp_path)
    for row in at_once:
        newest = sorted(results.glob(f"wandb/*/run-{row}-*.wandb"))[-1]
        assert sorted(read_offline_run(newest).history) == list(range(12))
    assert_same(results, inline(LONGER))


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGTERM], ids=lambda s: s.name)
def test_a_driver_that_is_stopped_leaves_nothing_running_and_its_command_continues(on_ray, inline, tmp_path, stop):
    results = tmp_path / "ray"
    process = on_ray(*LONGER)
    wait_for(lambda: has_trained(results, "hbnet14"), process)
    os.kill(process.pid, stop)
    assert process.wait(SECONDS) == (130 if stop == signal.SIGTERM else -stop), output(tmp_path)
    wait_for(lambda: not session(process.pid))
    trained = len(next(results.glob("runs/*/hbnet14-*/metrics.csv")).read_text().splitlines())
    assert trained >= 4
    if stop == signal.SIGTERM:
        assert "interrupted" in {result["status"] for result in records(results).values()}
        assert not list(results.glob("runs/*/*/.worker"))
    assert on_ray(*LONGER).wait(SECONDS) == 0, output(tmp_path)
    assert_same(results, inline(LONGER))


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.mark.slow
def test_a_cluster_of_two_nodes_trains_on_both_and_forgets_a_killed_driver(
    start, on_ray, inline, tmp_path, environment
):
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    results, address = tmp_path / "ray", f"127.0.0.1:{free_port()}"
    ray = (sys.executable, "-m", "ray.scripts.scripts", "start", "--num-cpus", "1", "--block")
    start(*ray, "--head", "--port", address.partition(":")[2], "--include-dashboard", "false")
    wait_for(lambda: "Ray runtime started" in output(tmp_path))
    start(*ray, "--address", address)
    wait_for(lambda: output(tmp_path).count("Ray runtime started") == 2)
    words = (*LONGER, "--address", address)
    process = on_ray(*words)
    places = wait_for(lambda: (w := workers(results)).keys() == {"hbnet14", "plain14"} and w, process)
    assert len({place["node_id"] for place in places.values()}) == 2
    wait_for(lambda: has_trained(results, "hbnet14"), process)
    os.kill(process.pid, signal.SIGKILL)
    wait_for(lambda: not any(Path(f"/proc/{place['process']}/cwd").exists() for place in places.values()))
    assert on_ray(*words).wait(SECONDS) == 0, output(tmp_path)
    assert_same(results, inline(LONGER))
