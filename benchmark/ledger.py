"""Run records: one folder a run, written atomically, never overwritten once done.

<results>/runs/<experiment>/<run id>/spec.json     what was asked: cell and seed
                                    /metrics.csv   one row an epoch
                                    /result.json   how it ended: status, errors, cost, device, versions, data; the
                                                   ``parts`` of a run that went on elsewhere or with other code
                                    /checkpoints/  ignored by git
"""

import contextlib
import csv
import hashlib
import json
import math
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from benchmark.commits import commit_name
from benchmark.errors import UserError
from benchmark.specs import SCHEMA_VERSION, Cell, cell_from_dict, run_id, to_dict

STATUSES = ("done", "failed", "diverged", "interrupted")
FINISHED = ("done", "diverged")


@dataclass(frozen=True)
class Record:
    """One run as it was measured: ``result`` is result.json, ``metrics`` the rows of metrics.csv."""

    path: Path
    cell: Cell
    seed: int
    result: Mapping[str, Any]
    metrics: tuple[Mapping[str, float], ...]

    @property
    def status(self) -> str:
        return self.result["status"]

    @property
    def parts(self) -> Sequence[Mapping[str, Any]]:
        """Each with its ``device``, ``versions`` and ``git``; the result alone unless they changed."""
        return self.result.get("parts") or [self.result]

    @property
    def device(self) -> str:
        """As the record names it, the number of a CPU's threads included; all, if the run went on on another."""
        return " and ".join(self.of_parts(_device))

    @property
    def device_kind(self) -> str:
        """The device without the number of a CPU's threads."""
        return " and ".join(self.of_parts(lambda part: re.sub(r",[^,]*\bthreads?$", "", _device(part))))

    @property
    def commits(self) -> tuple[str, ...]:
        """Those that the run was made with: one, unless it went on at another."""
        return self.of_parts(lambda part: commit_name(part.get("git") or {}))

    def of_parts(self, read: Callable[[Mapping[str, Any]], str]) -> tuple[str, ...]:
        """What is read of the parts, in order, each once."""
        return tuple(dict.fromkeys(map(read, self.parts)))

    @property
    def validation_error(self) -> float | None:
        """The last epoch's error (percent) on the training images held out; None if none were or it never came."""
        if self.status != "done" or not self.cell.data.validation or not self.metrics:
            return None
        return self.metrics[-1].get("eval_error")


def _device(part: Mapping[str, Any]) -> str:
    """Early records have "1 threads"."""
    return re.sub(r"\b1 threads$", "1 thread", str(part.get("device") or "unknown"))


class WriteError(UserError):
    """A file of the results cannot be written: no room, no permission."""


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader sees the old file or the new one, never a part of it. A link stays one.

    Raises:
        WriteError: the folder cannot be written, or there is something else than a file, such as a device.
    """
    try:
        if path.exists() and not path.is_file():
            raise WriteError(f"cannot write {path}: it is not a file")
        path = Path(os.path.realpath(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content.encode(errors="backslashreplace") if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise WriteError(f"cannot write {path}: {error.strerror or error}") from error


class RunFolder:
    """The folder of one run.

    ``parts`` are the environments that trained it, in turn, each with its ``epochs``; the record has them if they
    are several.
    """

    def __init__(self, results: Path, cell: Cell, seed: int) -> None:
        self.cell, self.seed = cell, seed
        self.parts: list[dict[str, Any]] = []
        self.id = run_id(cell, seed)
        self.path = Path(results) / "runs" / cell.experiment / self.id

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def result(self) -> dict[str, Any] | None:
        """result.json, or None if the run has not ended yet.

        Raises:
            UserError: the file is there but cannot be read as a record of this run.
        """
        path = self.path / "result.json"
        result = _unless_gone(_read_result, path)
        if result is None:
            return None
        if result.get("run_id") != self.id:
            raise UserError(f"{path} is the record of another run, {result.get('run_id')}; remove it to run again")
        if _digest(result) != result.get("sha256"):
            raise UserError(f"{path} was edited: its checksum differs; restore it, or remove it to run again")
        return result

    def status(self) -> str:
        """A status of ``STATUSES``, ``"started"`` if there are only metrics so far, or ``"to do"``."""
        result = self.result()
        if result:
            return result["status"]
        return "started" if (self.path / "metrics.csv").exists() else "to do"

    def reopen(self) -> None:
        """Forget how an unfinished run ended, before it goes on; its metrics and checkpoints stay.

        Sweeps what a killed writer left behind; the caller holds the run's lock.
        """
        for leftover in self.path.glob(".*.tmp"):
            leftover.unlink()
        result = self.result()
        if result and result["status"] not in FINISHED:
            (self.path / "result.json").unlink()
        (self.path / "error.txt").unlink(missing_ok=True)

    def write_spec(self) -> None:
        write_atomically(self.path / "spec.json", _json({"cell": to_dict(self.cell), "seed": self.seed}))

    def write_metrics(self, rows: Iterable[Mapping[str, float]]) -> None:
        rows = list(rows)
        write_atomically(self.path / "metrics.csv", _csv(rows))

    def read_metrics(self) -> list[dict[str, float]]:
        path = self.path / "metrics.csv"
        return _read_metrics(path) if path.exists() else []

    def write_result(self, status: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Write result.json; a run that is done or diverged is never written again.

        Raises:
            RuntimeError: the run had finished already (a programming error, not a user's).
        """
        if status not in STATUSES:
            raise ValueError(f"unknown status {status!r}; valid: {', '.join(STATUSES)}")
        before = self.result()
        if before and before["status"] in FINISHED:
            raise RuntimeError(f"{self.path} holds a finished run, which is never overwritten")
        result: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "run_id": self.id,
            "status": status,
            "experiment": self.cell.experiment,
            "seed": self.seed,
            "spec": to_dict(self.cell),
            **values,
            **({"parts": self.parts} if len(self.parts) > 1 else {}),
            "metrics_sha256": _sha256_of_file(self.path / "metrics.csv"),
        }
        result["sha256"] = _digest(result)
        write_atomically(self.path / "result.json", _json(result))
        return result

    @contextlib.contextmanager
    def lock(self) -> Iterator[bool]:
        """Hold the run for this process; yields False if another process has it.

        Raises:
            UserError: the results directory cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path / ".lock", blocking=False)
            lock.acquire()
        except Timeout:
            yield False
            return
        except OSError as error:
            raise WriteError(f"cannot write {self.path}: {error.strerror or error}") from error
        try:
            yield True
        finally:
            lock.release()


def read_records(results: Path, experiment: str) -> list[Record]:
    """Every ended run of an experiment, in a fixed order (cell, then seed).

    Raises:
        UserError: a record cannot be read, is damaged, was edited, or has a schema this version does not know; it
            is named.
    """
    read = (_unless_gone(_read_record, folder / "result.json") for folder in _run_folders(results, experiment))
    return sorted(
        filter(None, read), key=lambda r: (r.cell.profile, r.cell.row, r.cell.dataset, r.seed, r.path.name)
    )


def _run_folders(results: Path, experiment: str) -> list[Path]:
    """By name; none if nothing was run."""
    folder = Path(results) / "runs" / experiment
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry.path) for entry in entries if not entry.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UserError(f"{folder} cannot be read: {error.strerror}") from error


def _unless_gone(read: Callable[[Path], Any], path: Path) -> Any | None:
    """What is read, or None if there is no file, or none any more: another process may just go on with its run."""
    try:
        return read(path)
    except UserError:
        if not _is_gone(path):
            raise
        return None


def _is_gone(path: Path) -> bool:
    """A file in a folder without permission is not: what was measured must not be left out in silence."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _read_record(path: Path) -> Record:
    result = _read_result(path)
    try:
        cell, seed = cell_from_dict(result["spec"]), int(result["seed"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{path} is not a run record: {error!r}; remove it or restore it") from error
    expected = run_id(cell, seed)
    in_place = path.parent.name == result.get("run_id") == expected and path.parents[1].name == cell.experiment
    if not in_place:
        raise UserError(f"{path} does not match its run id ({cell.experiment}/{expected}): it was edited or moved")
    metrics = path.parent / "metrics.csv"
    if _digest(result) != result.get("sha256") or _sha256_of_file(metrics) != result.get("metrics_sha256"):
        raise UserError(
            f"{path} or metrics.csv beside it was edited: its checksum differs; restore it or remove it"
        )
    rows = tuple(_read_metrics(metrics)) if metrics.exists() else ()
    return Record(path.parent, cell, seed, result, rows)


def _read_result(path: Path) -> dict[str, Any]:
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        status, version = result["status"], result["schema_version"]
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path} is not a run record ({error}); remove it to run again") from error
    if version != SCHEMA_VERSION:
        raise UserError(f"{path} has schema version {version}; this version reads {SCHEMA_VERSION}")
    if status not in STATUSES:
        raise UserError(f"{path} has status {status!r}; valid: {', '.join(STATUSES)}")
    return result


def _read_metrics(path: Path) -> list[dict[str, float]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise UserError(f"{path} is not a table of metrics: {error}") from error


def _digest(result: Mapping[str, Any]) -> str:
    """SHA-256 of a record without its own digest."""
    rest = {key: value for key, value in result.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _sha256_of_file(path: Path) -> str | None:
    """None if there is no such file.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, sort_keys=True) + "\n"


def _csv(rows: list[Mapping[str, float]]) -> str:
    if not rows:
        return ""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [",".join(names)] + [",".join(_number(row.get(name, math.nan)) for name in names) for row in rows]
    return "\n".join(lines) + "\n"


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else repr(float(value))
