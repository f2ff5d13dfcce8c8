"""Commands in a process of their own, and what a mistake must look like."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def command(*words, **environment):
    """The real command in a process of its own, without a terminal."""
    return subprocess.run(
        [sys.executable, "-m", "benchmark", *map(str, words)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        timeout=240,
    )


def assert_mistake(done, *parts):
    """Exit 2 and one line of error that contains the parts; notes may precede it: decoding, data left out."""
    assert done.returncode == 2, done.stderr
    *before, error = done.stderr.strip().splitlines()
    assert all(line.startswith("decoding ") or " left out: " in line for line in before), done.stderr
    assert error.startswith("error: ")
    for part in parts:
        assert part in error


SMOKE = ["--profile", "smoke", "--device", "cpu"]
