"""Several processes train each run: what stops one of them, or all, and what a launcher must do."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from tests.faults.conftest import ROOT

SHARED = ("run", "quickstart", "--seeds", "0", "--device", "cpu", "--devices", "2")
TRAIN = (*SHARED, "--network", "feedforward:depth=4")
SMOKE = (*SHARED, "--profile", "smoke", "--network", "feedforward:depth=2", "feedforward:depth=3")
SECONDS = 600

pytestmark = pytest.mark.slow


def kept(results):
    """Every number of a run but its costs."""
    (folder,) = results.glob("runs/quickstart/*/")
    rows = [line.split(",")[:6] for line in (folder / "metrics.csv").read_text().splitlines()]
    result = json.loads((folder / "result.json").read_text())
    names = ("status", "test_error", "test_loss", "test_top5_error", "epochs", "gradient_norms")
    return rows, {name: result[name] for name in names}


def read_result(results):
    (path,) = results.glob("runs/*/*/result.json")
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def uninterrupted(command, tmp_path_factory):
    results = tmp_path_factory.mktemp("uninterrupted")
    ended = command(*TRAIN, "--results-dir", results)
    assert ended.status == 0, ended.err
    return kept(results)


@pytest.fixture
def mark():
    """A variable that the processes of a test inherit; those that are left at its end are killed."""
    name = f"OIN_TEST_{uuid.uuid4().hex}"
    yield name
    for process in marked(name):
        os.kill(process, signal.SIGKILL)


def marked(name):
    """Process ids, without those that have ended and wait to be fetched."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if name.encode() in (process / "environ").read_bytes():
                found.append(int(process.name))
        except OSError:
            continue
    return found


def assert_none_is_left(name, seconds=30):
    deadline = time.monotonic() + seconds
    while marked(name):
        assert time.monotonic() < deadline, "processes are left"
        time.sleep(0.1)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_dies_fails_the_run_and_the_next_call_goes_on(command, tmp_path, uninterrupted, mark, rank):
    words = (*TRAIN, "--results-dir", tmp_path)
    ended = command(*words, injection=("kill_process", rank, 4), environment={mark: "1"})
    assert ended.status == 1
    reason = f"process {rank} of 2 ended with signal 9 (SIGKILL)"
    assert ended.err.splitlines() == [f"not done: feedforward:depth=4 on digits, seed 0: failed ({reason})"]
    result = read_result(tmp_path)
    assert (result["status"], result["reason"]) == ("failed", reason)
    assert_none_is_left(mark)
    ended = command(*words)
    assert ended.status == 0, ended.err
    assert kept(tmp_path) == uninterrupted


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM], ids=lambda s: s.name)
def test_a_signal_ends_all_processes_and_the_next_call_continues(command, tmp_path, uninterrupted, mark, stop):
    words = (*TRAIN, "--results-dir", tmp_path)
    saved = tmp_path / "runs/*/*/checkpoints/epoch-0003.ckpt"
    ended = command(*words, exists=saved, send=stop, environment={mark: "1"})
    assert ended.status == 130
    assert ended.err.strip() == "interrupted; the same command continues"
    assert read_result(tmp_path)["status"] == "interrupted"
    assert_none_is_left(mark)
    ended = command(*words)
    assert ended.status == 0, ended.err
    assert kept(tmp_path) == uninterrupted


def test_killing_the_command_leaves_no_process(command, tmp_path, uninterrupted, mark):
    words = (*TRAIN, "--results-dir", tmp_path)
    saved = tmp_path / "runs/*/*/checkpoints/epoch-0003.ckpt"
    assert command(*words, exists=saved, environment={mark: "1"}).status == -9
    assert_none_is_left(mark)
    ended = command(*words)
    assert ended.status == 0, ended.err
    assert kept(tmp_path) == uninterrupted


def launched(words, *options, **environment):
    """The command under torchrun."""
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *options, "-m", "benchmark", *map(str, words)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        timeout=SECONDS,
    )


def slurm(words, *ranks, **changes):
    """The command as srun starts it, once for each rank; exit statuses, outputs and errors."""
    common = {
        "SLURM_JOB_ID": str(10_000 + os.getpid() % 9_000),
        "SLURM_JOB_NAME": "train",
        "SLURM_NTASKS": "2",
        "SLURM_NTASKS_PER_NODE": "2",
        "SLURM_NNODES": "1",
        "SLURM_NODEID": "0",
        "SLURM_NODELIST": "127.0.0.1",
        "OMP_NUM_THREADS": "1",
        **changes,
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmark", *map(str, words)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **common, "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)},
        )
        for rank in ranks
    ]
    try:
        texts = [process.communicate(timeout=SECONDS) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, *text) for process, text in zip(processes, texts, strict=True)]


def assert_both_are_done_once(results):
    paths = sorted(results.glob("runs/quickstart/*/result.json"))
    assert [json.loads(path.read_text())["status"] for path in paths] == ["done", "done"]
    for path in paths:
        assert len((path.parent / "metrics.csv").read_text().splitlines()) == 1 + 2
        assert len(list(path.parent.glob("checkpoints/*"))) == 1


def test_torchrun(tmp_path, mark):
    words = (*SMOKE, "--results-dir", tmp_path)
    done = launched(words, "--standalone", "--nproc-per-node", "2", **{mark: "1"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("[1/2]") == done.stdout.count("[2/2]") == 1
    assert_both_are_done_once(tmp_path)
    assert_none_is_left(mark)


@pytest.mark.parametrize("stop", ["follower killed", "torchrun stopped"])
def test_a_fault_under_torchrun(command, tmp_path, uninterrupted, mark, stop):
    options = ["--standalone", "--nproc-per-node", "2", "-m", "benchmark", *TRAIN, "--results-dir", str(tmp_path)]
    torchrun = subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", mark: "1"},
    )
    deadline = time.monotonic() + SECONDS
    while not list(tmp_path.glob("runs/*/*/checkpoints/epoch-0003.ckpt")):
        assert torchrun.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    if stop == "follower killed":
        (follower,) = (p for p in marked(mark) if b"\0RANK=1\0" in Path(f"/proc/{p}/environ").read_bytes())
        os.kill(follower, signal.SIGKILL)
    else:
        torchrun.terminate()
    _, errors = torchrun.communicate(timeout=SECONDS)
    assert torchrun.returncode == 1
    if stop == "follower killed":
        # torchrun may end the leader before it has written that it lost the other one
        if list(tmp_path.glob("runs/*/*/result.json")):
            result = read_result(tmp_path)
            reason = "process 0 of 2 lost another one, which ended; the launcher knows why"
            assert (result["status"], result["reason"]) == ("failed", reason)
    else:
        result = read_result(tmp_path)
        assert (result["status"], result["reason"]) == ("interrupted", "stopped by a signal")
        assert errors.count("interrupted; the same command continues") == 1
    assert_none_is_left(mark)
    ended = command(*TRAIN, "--results-dir", tmp_path)
    assert ended.status == 0, ended.err
    assert kept(tmp_path) == uninterrupted


def test_torchrun_on_two_nodes_that_are_this_machine(tmp_path, mark):
    words = [*SMOKE, "--nodes", "2", "--results-dir", tmp_path]
    words[words.index("--devices") + 1] = "1"
    options = ["--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d", "--rdzv-id", mark]
    options += ["--rdzv-endpoint", f"127.0.0.1:{20_000 + os.getpid() % 9_000}"]
    nodes = [
        subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", *options, "-m", "benchmark", *map(str, words)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", mark: "1"},
        )
        for _ in range(2)
    ]
    try:
        ended = [(node.communicate(timeout=SECONDS), node.returncode) for node in nodes]
    finally:
        for node in nodes:
            node.kill()
    assert [code for _, code in ended] == [0, 0], ended
    assert_both_are_done_once(tmp_path)
    assert all("2 nodes of 1 process of 1 thread" in p.read_text() for p in tmp_path.glob("runs/*/*/result.json"))


def test_torchrun_started_another_number(tmp_path):
    done = launched((*SMOKE, "--results-dir", tmp_path), "--standalone", "--nproc-per-node", "1")
    assert done.returncode != 0
    line = "error: torchrun started 1 processes, and --devices 2 --nodes 1 asks for 2"
    assert [text for text in done.stderr.splitlines() if text.startswith("error")] == [line]
    assert not list(tmp_path.iterdir())


def test_srun(tmp_path):
    words = (*SMOKE, "--results-dir", tmp_path)
    (code, out, err), (other_code, other_out, other_err) = slurm(words, 0, 1)
    assert (code, other_code) == (0, 0), err + other_err
    assert out.count("[1/2]") == out.count("[2/2]") == 1
    assert other_out + other_err == ""
    assert_both_are_done_once(tmp_path)


def test_a_mistake_under_srun_is_told_once(tmp_path):
    words = [word.replace("feedforward", "feedforwrad") for word in SMOKE]
    (code, _, err), (_, other_out, other_err) = slurm([*words, "--results-dir", tmp_path], 0, 1)
    assert code == 2
    assert err.startswith("error: unknown network 'feedforwrad'")
    assert len(err.splitlines()) == 1
    assert other_out + other_err == ""
