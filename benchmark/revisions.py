"""Results by name: a results directory, or what a git revision committed of it."""

import contextlib
import io
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmark.commits import COMMIT_DIGITS
from benchmark.errors import UserError

RUNS = "results/runs"  # of a revision


@dataclass(frozen=True)
class Source:
    """A results directory and what to call it: its own name, or ``main (d22a3a8)`` for a revision."""

    name: str
    results: Path


@contextlib.contextmanager
def open_results(name: str) -> Iterator[Source]:
    """The results that ``name`` stands for: a directory, or else a revision of the repository around us.

    A revision's committed ``results/runs`` lie in a temporary folder until the context ends.

    Raises:
        UserError: neither of the two, no results there, or git cannot be asked.
    """
    folder = Path(name)
    if name and folder.is_dir():
        if not (folder / "runs").is_dir():
            inner = folder / "results"
            hint = f"; did you mean {inner}?" if (inner / "runs").is_dir() else ""
            raise UserError(f"directory {name} holds no results (it has no folder runs){hint}")
        yield Source(name, folder)
        return
    root = _root(name)
    commit = _commit(name, root)
    short = commit[:COMMIT_DIGITS]
    label = name if commit.startswith(name) else f"{name} ({short})"
    if not _git(root, "ls-tree", commit, RUNS).stdout:
        raise UserError(f"revision {label} has no {RUNS}: no results were committed in it")
    with tempfile.TemporaryDirectory(prefix="oin-") as temporary:
        target = Path(temporary) / short
        _extract(_git(root, "archive", "--format=tar", commit, RUNS), label, target)
        yield Source(label, target / "results")


def _root(name: str) -> Path:
    found = _git(Path(), "rev-parse", "--show-toplevel")
    if found.returncode:
        raise UserError(f"{name!r} is no directory, and {Path().resolve()} is no git checkout with revisions")
    return Path(found.stdout.decode().removesuffix("\n"))


def _commit(name: str, root: Path) -> str:
    found = _git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    if found.returncode:
        raise UserError(f"{name!r} is neither a directory nor a revision of {root}")
    return found.stdout.decode().strip()


def _extract(archive: subprocess.CompletedProcess, label: str, target: Path) -> None:
    if archive.returncode:
        raise UserError(f"cannot read the results of {label}: {_last_line(archive.stderr)}")
    try:
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
            tar.extractall(target, filter="data")
    except (tarfile.TarError, OSError) as error:
        raise UserError(f"cannot unpack the results of {label} under {target.parent}: {error}") from error


def _git(folder: Path, *words: str) -> subprocess.CompletedProcess:
    try:
        return subprocess.run(["git", *words], cwd=folder, capture_output=True, stdin=subprocess.DEVNULL)
    except OSError as error:
        raise UserError(
            f"git cannot be started ({error.strerror or error}); without it, name results directories"
        ) from error


def _last_line(message: bytes) -> str:
    return (message.decode(errors="replace").strip().splitlines() or ["git gave no reason"])[-1]
