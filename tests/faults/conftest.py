"""The real command under faults: ``command(...)`` runs it in a process that can be killed at any moment."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
ALONE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


@dataclass(frozen=True)
class Ended:
    """Exit status (-9: killed), output and errors of one process."""

    status: int
    out: str
    err: str


class Command:
    """Runs ``python -m benchmark`` with the words given."""

    def __init__(self, driver: subprocess.Popen, output: Path) -> None:
        self.driver, self.output = driver, output

    def __call__(self, *words: Any, **options: Any) -> Ended:
        return self.copies(1, *words, **options)[0]

    def copies(
        self,
        copies: int,
        *words: Any,
        injection: tuple = (),
        after: float | None = None,
        exists: Path | None = None,
        send: signal.Signals = signal.SIGKILL,
        environment: dict[str, str] | None = None,
    ) -> list[Ended]:
        """The same command several times at once; ``send`` a signal ``after`` seconds, once a glob ``exists``."""
        request = {
            "argv": [str(word) for word in words],
            "injection": injection,
            "after": after,
            "exists": None if exists is None else str(exists),
            "signal": int(send),
            "environment": environment or {},
            "copies": copies,
            "output": str(self.output),
        }
        self.driver.stdin.write(json.dumps(request) + "\n")
        self.driver.stdin.flush()
        statuses = json.loads(self.driver.stdout.readline())
        texts = [[(self.output / f"{i}{end}").read_text() for end in (".out", ".err")] for i in range(copies)]
        return [Ended(status, *text) for status, text in zip(statuses, texts, strict=True)]


@pytest.fixture(scope="session")
def driver() -> Iterator[subprocess.Popen]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.driver"],
        cwd=ROOT,
        env={**os.environ, **ALONE},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process
    process.terminate()  # workers forked by other tests may hold its input open
    process.wait()


@pytest.fixture(scope="session")
def command(driver: subprocess.Popen, tmp_path_factory: pytest.TempPathFactory) -> Command:
    return Command(driver, tmp_path_factory.mktemp("output"))
