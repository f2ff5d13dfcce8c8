"""Many runs at once on Ray: one task a run, the longest first, each in a fresh process.

A worker does what the in-process engine does, under the same lock, and leaves the same record; results, data and
working directory must be the same files on every node. What is done is known from the ledger alone, so the command
of a driver that was killed continues. A worker that is lost is replaced, and its run goes on from its last epoch;
an error of the run is a record, and is not tried again.
"""

import contextlib
import json
import os
import signal
import socket
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmark import grid
from benchmark.board import Board, Place, Running
from benchmark.errors import UserError
from benchmark.ledger import FINISHED, RunFolder, write_atomically
from benchmark.plan import PlannedRun
from benchmark.ray_cluster import Cluster
from benchmark.run import InterruptedRun
from benchmark.tracking import Tracker

RETRIES = 3
"""Workers that a run may lose before it is given up."""
POLL_SECONDS = 1.0
SECONDS_TO_STOP = 30
WHERE = ".worker"
"""The file in a run's folder that says, while a worker trains it, where."""


@dataclass(frozen=True)
class Order:
    """What a worker is told. ``driver`` is a word that only one driver has; the run's folder is there already."""

    folder: RunFolder
    label: str
    data_dir: Path
    device: str
    threads: int
    tracker: Tracker
    driver: str
    has_data: bool
    home: Path = field(default_factory=Path.cwd)
    environment: dict[str, str] = field(
        default_factory=lambda: {k: v for k, v in os.environ.items() if k.startswith(("WANDB_", "OIN_"))}
    )


@dataclass(frozen=True)
class Answer:
    """What a worker says at the end: a record, or why there is none; its warnings; and W&B's mode from now on.

    ``refused`` stops the grid, ``skipped`` this run only.
    """

    result: dict[str, Any] | None = None
    skipped: str = ""
    refused: str = ""
    warnings: tuple[str, ...] = ()
    tracking: str = ""


def run_all(
    runs: Sequence[PlannedRun], data_dir: Path, device: str, board: Board, tracker: Tracker, cluster: Cluster
) -> list[str]:
    """Do what is left, as many at once as there is room for; a run that fails does not stop the others.

    Returns:
        One line for each run that is not done: its label and why.

    Raises:
        UserError: the data or the results directory cannot be used, here or on a node.
        InterruptedRun: a signal came; what ran is recorded as interrupted.
    """
    driver = _Driver(runs, board, tracker, cluster)
    try:
        driver.work(data_dir, device)
    except (KeyboardInterrupt, SystemExit) as error:
        driver.cancel()
        raise InterruptedRun from error
    except UserError:
        driver.cancel()
        raise
    return driver.problems


class _Driver:
    """Hands out runs and collects answers. ``handed`` are the tasks, by Ray's reference."""

    def __init__(self, runs: Sequence[PlannedRun], board: Board, tracker: Tracker, cluster: Cluster) -> None:
        self.board, self.tracker, self.cluster, self.name = board, tracker, cluster, uuid.uuid4().hex
        self.headings = {run.folder.id: board.heading(number, run.label) for number, run in enumerate(runs, 1)}
        self.problems: list[str] = []
        self.handed: dict[Any, PlannedRun] = {}
        self.said: set[str] = set()
        for run in runs:
            if run.status in FINISHED:
                self._skip(run, f"{run.status} already", run.status)
        self.seconds = {run.folder.id: run.seconds_left for run in runs}
        left = [run for run in runs if run.status not in FINISHED]
        self.waiting = sorted(left, key=lambda run: self.seconds[run.folder.id], reverse=True)

    def work(self, data_dir: Path, device: str) -> None:
        import ray

        task = ray.remote(
            num_cpus=self.cluster.cpus,
            num_gpus=self.cluster.gpus,
            max_calls=1,
            max_retries=RETRIES,
            retry_exceptions=False,
            scheduling_strategy="SPREAD",
        )(train)
        while self.waiting or self.handed:
            slots = max(self.cluster.slots(), 1)  # if all nodes are gone for now, the task waits for one
            while self.waiting and len(self.handed) < slots:
                run = self.waiting.pop(0)
                order = Order(
                    folder=run.folder,
                    label=run.label,
                    data_dir=data_dir,
                    device=device,
                    threads=self.cluster.cpus,
                    tracker=self.tracker,
                    driver=self.name,
                    has_data=data_dir.exists(),
                )
                run.folder.path.mkdir(parents=True, exist_ok=True)
                self.handed[task.remote(order)] = run
            self._show(slots)
            ready, _ = ray.wait(list(self.handed), timeout=POLL_SECONDS)
            for reference in ready:
                self._take(reference, self.handed.pop(reference))

    def cancel(self) -> None:
        """Let the workers record that they were interrupted; a second signal does not wait for that."""
        import ray

        with contextlib.suppress(KeyboardInterrupt):
            for reference in self.handed:
                ray.cancel(reference)
            if self.handed:
                ray.wait(list(self.handed), num_returns=len(self.handed), timeout=SECONDS_TO_STOP)

    def _take(self, reference: Any, run: PlannedRun) -> None:
        """The answer of a task that ended.

        Raises:
            UserError: the worker's node cannot be used.
        """
        import ray

        try:
            answer: Answer = ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            self._skip(run, f"failed ({_one_line(error.cause)})", "failed")
            return
        except ray.exceptions.RayError as error:
            self._skip(run, f"lost its worker {RETRIES + 1} times ({_one_line(error)})", "lost")
            return
        for warning in answer.warnings:
            if warning not in self.said:
                self.said.add(warning)
                self.board.say(warning)
        if answer.refused:
            raise UserError(answer.refused)
        self.tracker.mode = answer.tracking
        if answer.result is None:
            self._skip(run, answer.skipped, "skipped")
            return
        self.board.end(self.headings[run.folder.id], answer.result)
        if answer.result["status"] != "done":
            self.problems.append(f"{run.label}: {answer.result['status']} ({answer.result['reason']})")

    def _skip(self, run: PlannedRun, why: str, status: str) -> None:
        self.board.skip(self.headings[run.folder.id], status, why)
        if status != "done":
            self.problems.append(f"{run.label}: {'diverged' if status == 'diverged' else why}")

    def _place(self, folder: RunFolder) -> Place | None:
        """Where a worker of this driver trains the run now."""
        with contextlib.suppress(OSError, ValueError):
            where = json.loads((folder.path / WHERE).read_text(encoding="utf-8"))
            if where["driver"] == self.name:
                return Place(where["node"], f"{where['slot']}, process {where['process']}")
        return None

    def _show(self, slots: int) -> None:
        running = [
            Running(
                heading=self.headings[run.folder.id],
                epochs=run.cell.recipe.epochs,
                seconds=self.seconds[run.folder.id],
                place=self._place(run.folder),
                row=_newest_row(run.folder),
            )
            for run in self.handed.values()
        ]
        lefts = [run.seconds_left for run in running]
        total = sum(lefts) + sum(self.seconds[run.folder.id] for run in self.waiting)
        self.board.update(running, len(self.waiting), max(total / slots, *lefts))


def train(order: Order) -> Answer:
    """The task of a worker.

    Told to stop by anything but the driver, such as a node that is taken away, it ends as lost, so that its run is
    handed to another.
    """
    import ray

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.environ.update(order.environment)
    torch.set_num_threads(order.threads)
    with tempfile.TemporaryFile("w+") as errors, contextlib.redirect_stderr(errors):
        try:
            answer = _train(order)
        except UserError as error:
            answer = {"refused": str(error)}
        except InterruptedRun:
            if not ray.get_runtime_context().is_canceled():
                os._exit(1)
            answer = {"skipped": "interrupted"}
        errors.seek(0)
        return Answer(**answer, warnings=tuple(errors.read().splitlines()), tracking=order.tracker.mode)


def _train(order: Order) -> dict[str, Any]:
    _enter(order)
    folder = order.folder
    with folder.lock() as ours:
        if not ours:
            return {"skipped": "another process is running it"}
        if folder.status() in FINISHED:
            return {"result": folder.result()}
        with _where(order):
            result = grid.execute_tracked(
                folder, order.label, order.data_dir, order.device, order.tracker, lambda row: None
            )
        return {"result": result}


def _enter(order: Order) -> None:
    """Go where the driver is.

    Raises:
        UserError: this node does not see the driver's files.
    """
    node = socket.gethostname()
    try:
        os.chdir(order.home)
    except OSError as error:
        raise UserError(f"{order.home}, where this was called, is not on node {node}; share it") from error
    if not order.folder.path.is_dir():
        raise UserError(f"{order.tracker.results} on node {node} is not the driver's; share it")
    if order.has_data and not order.data_dir.exists():
        raise UserError(f"{order.data_dir} is not on node {node}; share it")


@contextlib.contextmanager
def _where(order: Order) -> Iterator[None]:
    """Say where the run is trained, meanwhile."""
    import ray

    path, context = order.folder.path / WHERE, ray.get_runtime_context()
    gpus = context.get_accelerator_ids().get("GPU", [])
    where = {
        "driver": order.driver,
        "node": socket.gethostname(),
        "node_id": context.get_node_id(),
        "slot": f"GPU {gpus[0]}" if gpus else "CPU",
        "process": os.getpid(),
    }
    write_atomically(path, json.dumps(where) + "\n")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _newest_row(folder: RunFolder) -> dict[str, float] | None:
    with contextlib.suppress(UserError):  # it is only shown; the worker says what is wrong with it
        if rows := folder.read_metrics():
            return rows[-1]
    return None


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split(". ")[0].split())[:300] or type(error).__name__
