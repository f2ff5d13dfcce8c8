"""Processes that measure are fresh, share the steps and end with the command."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from benchmark.speed import measure, processes, suite
from benchmark.speed.loops import bare_loop

TINY = suite.Settings("cpu", "32-true", "off", batch_size=8, blocks=2, steps=3)
NETWORK = "cifar_hbnet20:depth=8"


@pytest.mark.parametrize("loop", ["ours", "reference", pytest.param("bare", marks=pytest.mark.slow)])
def test_peak_memory_of_a_loop_is_measured_in_a_process_of_its_own(loop):
    """It starts below what this process holds."""
    ballast = torch.ones(2**28)
    peak, before = processes.in_its_own_process(measure.peak_memory, TINY.task(NETWORK), loop)
    assert 0 < before < ballast.nbytes
    assert peak > before


def counting_loop(order):
    return lambda task: lambda: order.append(task)


def test_processes_share_the_blocks_and_begin_with_another_loop_each(monkeypatch):
    """Seven blocks of three steps in five processes: two get one more."""
    calls = []

    def fake(measure, turns, device, blocks, steps):
        calls.append(("".join(turns), blocks, steps))
        return {name: [1.0] for name in turns}

    monkeypatch.setattr(processes, "in_its_own_process", fake)
    processes.time_side_by_side(dict.fromkeys("ab", (bare_loop, None)), "cpu", 7, 3)
    assert calls == [("ab", 2, 3), ("ba", 2, 3), ("ab", 1, 3), ("ba", 1, 3), ("ab", 1, 3)]


def test_a_networks_loops_are_timed_in_several_processes(monkeypatch):
    calls = []

    def fake(loops, task, blocks, steps):
        assert loops is measure.time_loops
        calls.append((blocks, steps))
        times = {name: [len(calls) * seconds] for name, seconds in (("ours", 1.0), ("bare", 0.5))}
        return measure.Timing(times, {phase: float(len(calls)) for phase in measure.PHASES})

    monkeypatch.setattr(processes, "in_its_own_process", fake)
    times, phases = processes.time_network(TINY.task(NETWORK), 7, 3)
    assert calls == [(2, 3), (2, 3), (1, 3), (1, 3), (1, 3)]
    assert (times.median("ours"), times.ratios("ours", "bare")) == (3.0, [2.0] * 5)
    assert phases == dict.fromkeys(measure.PHASES, 3.0)


def test_fewer_blocks_than_processes(monkeypatch):
    monkeypatch.setattr(processes, "in_its_own_process", lambda measure, *arguments: measure(*arguments))
    order = []
    loop = counting_loop(order)
    times = processes.time_side_by_side({"a": (loop, "a"), "b": (loop, "b")}, "cpu", 2, 3)
    warm = measure.WARM_UP_STEPS
    first, second = "a" * warm + "b" * warm + "aaabbb", "b" * warm + "a" * warm + "bbbaaa"
    assert "".join(order) == first + second
    assert [len(seconds) for of_loops in times.of_processes for seconds in of_loops.values()] == [3] * 4


def test_medians_are_of_the_processes_medians_and_ratios_of_each():
    times = processes.Times([{"a": [1.0, 2.0, 3.0], "b": [2.0, 2.0, 2.0]}, {"a": [6.0], "b": [3.0]}])
    assert (times.median("a"), times.median("b")) == (4.0, 2.5)
    assert times.ratios("a", "b") == [1.0, 2.0]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for the process in /proc")
@pytest.mark.parametrize("stop", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_measurement_ends_with_the_command(tmp_path, stop):
    """It writes down its process's number and goes on for ten minutes; the signal comes to the command alone."""
    script, noted = tmp_path / "command.py", tmp_path / "pid"
    script.write_text(
        "import os, pathlib, sys, time\n"
        "from benchmark.speed.processes import in_its_own_process\n"
        "def work(path):\n"
        "    pathlib.Path(path).write_text(str(os.getpid()))\n"
        "    time.sleep(600)\n"
        "if __name__ == '__main__':\n"
        "    in_its_own_process(work, sys.argv[1])\n"
    )
    command = subprocess.Popen([sys.executable, script, noted])
    wait_for(lambda: noted.exists() and noted.read_text())
    assert int(noted.read_text()) != command.pid
    command.send_signal(stop)
    try:
        command.wait(timeout=40)
    finally:
        command.kill()
    wait_for(lambda: not is_alive(int(noted.read_text())))


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def is_alive(pid):
    """Whether the process is there and has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
