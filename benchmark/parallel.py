"""Runs that several processes train together: started here for each run, or by torchrun or srun for all of them.

Started here, the processes of a run live and die with it: one that dies ends the others and fails the run, with the
reason in its record, and none outlives this process. Under a launcher every process runs the same command: the
leader (rank 0) plans, prints and records, and the others train what it tells them to.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from benchmark import machine, run
from benchmark.errors import UserError
from benchmark.group import AgreedError, Group, GroupError, check_devices, describe, join
from benchmark.launchers import Place, process_name
from benchmark.ledger import RunFolder
from benchmark.run import OnEpoch
from lightning_modules.classifier import DivergedError

HOST = "127.0.0.1"
GRACE_SECONDS = 10
"""That the others have to end by themselves once one has failed."""
STOPPED = "stopped by a signal"
LOST_PEER = ("gloo", "Connection closed", "Connection reset", "remote process exiting")

Execute = Callable[[RunFolder, Path, str, OnEpoch], dict[str, Any]]
"""Does a run and writes its record, as ``run.execute`` does."""


class LostGroup(Exception):  # noqa: N818
    """A run failed in one process of a launched group; no other run can follow in it."""


@contextmanager
def open_group(place: Place | None, devices: int, nodes: int, device_name: str) -> Iterator[tuple[str, Execute]]:
    """The device ("cpu" or "cuda") and how runs are executed on so many devices.

    Raises:
        UserError: a device is not there, or the launched processes cannot meet.
    """
    if place is None:
        device = machine.choose_device(device_name)
        check_devices(device, devices)
        together = partial(run.execute, train=partial(_train_in_processes, devices))
        yield device, together if devices > 1 else run.execute
        return
    leader = _Leader(join(place, devices, nodes, device_name))
    try:
        yield machine.choose_device(device_name), leader.execute
    finally:
        leader.dismiss()


def follow(place: Place, devices: int, nodes: int, device_name: str) -> int:
    """Train what the leader says until it says no more; returns the exit code and prints only what failed here.

    Raises:
        UserError: as ``open_group``; the leader says it too.
    """
    group = join(place, devices, nodes, device_name)
    _end_at_signals(group)
    try:
        while job := group.broadcast():
            folder, data_dir, device = job
            machine.free_memory(device)
            try:
                run.train_and_test(folder, data_dir, device, lambda row: None, group)
            except (DivergedError, AgreedError):
                continue
    except Exception as error:
        if _report(group, mine := describe_in(group.name, error)) == mine:
            print(f"error: {mine}", file=sys.stderr)
        return 1
    distributed.destroy_process_group()
    return 0


class _Leader:
    """Has the followers of a launched group train what it trains itself.

    They are ``in_step`` while they wait to be told what comes next; a run that fails in one process alone leaves
    the others in the middle of it, where nothing can be told them any more.
    """

    def __init__(self, group: Group) -> None:
        self.group, self.in_step = group, True

    def execute(self, folder: RunFolder, data_dir: Path, device: str, on_epoch: OnEpoch) -> dict[str, Any]:
        """As ``run.execute``.

        Raises:
            LostGroup: the run is recorded as failed, and no other can follow.
        """
        result = run.execute(folder, data_dir, device, on_epoch, self._train)
        if not self.in_step:
            raise LostGroup(f"{folder.id}: {result['status']} ({result['reason']}); the same command goes on")
        return result

    def _train(self, folder: RunFolder, data_dir: Path, device: str, on_epoch: OnEpoch) -> dict[str, Any]:
        self.in_step = False
        try:
            self.group.broadcast((folder, data_dir, device))
            values = run.train_and_test(folder, data_dir, device, on_epoch, self.group)
        except (DivergedError, AgreedError):
            self.in_step = True
            raise
        except BaseException as error:
            reason = _report(self.group, _why_it_ended(self.group, error))
            raise (KeyboardInterrupt if reason == STOPPED else GroupError(reason)) from error
        self.in_step = True
        return values

    def dismiss(self) -> None:
        """Nothing comes any more; left to the end of the process, gloo's threads may abort it."""
        if self.in_step:
            self.group.broadcast(None)
            distributed.destroy_process_group()


def _end_at_signals(group: Group) -> None:
    """SIGTERM and Ctrl-C end this follower at once, also while it waits in gloo, where no Python handler runs.

    It says so first: the leader can tell a run that was stopped from one that lost a process.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)

    def watch() -> None:
        number = os.read(reader, 1)[0]
        _report(group, STOPPED)
        os._exit(128 + number)

    threading.Thread(target=watch, daemon=True).start()


def _why_it_ended(group: Group, error: BaseException) -> str:
    """A signal is no cause if a process was gone before: launchers send it to the others then."""
    if lost := _find_lost_peer(error):
        return describe_in(group.name, lost)
    return STOPPED if isinstance(error, KeyboardInterrupt | SystemExit) else describe_in(group.name, error)


def _find_lost_peer(error: BaseException | None) -> BaseException | None:
    """The error among those that led to this one that tells of a process that is gone."""
    while error is not None and not _is_lost_peer(error):
        error = error.__context__
    return error


def _is_lost_peer(error: BaseException) -> bool:
    return isinstance(error, RuntimeError) and any(word in str(error) for word in LOST_PEER)


def _report(group: Group, reason: str) -> str:
    """Tell the group why this process gives up, and return what any of them told first."""
    try:
        return group.store.compare_set("failure", "", reason).decode()
    except (distributed.DistError, RuntimeError):  # it is gone with its process
        return "another process ended"


def describe_in(process: str, error: BaseException) -> str:
    """An error in one line, with the process that it came up in; one that only lost the others says so."""
    if _is_lost_peer(error):
        return f"{process} lost another one, which ended; the launcher knows why"
    return f"{process}: {describe(error)}"


@dataclass
class _Member:
    """A process started here; what it sends comes through ``receiver``."""

    name: str
    process: BaseProcess
    receiver: Connection
    has_reported: bool = False

    def why_it_ended(self) -> GroupError:
        self.process.join(GRACE_SECONDS)
        code = self.process.exitcode
        if code is None:
            return GroupError(f"{self.name} closed its connection")
        if code < 0:
            return GroupError(f"{self.name} ended with signal {-code} ({signal.Signals(-code).name})")
        return GroupError(f"{self.name} ended with exit status {code}")


def _train_in_processes(
    devices: int, folder: RunFolder, data_dir: Path, device: str, on_epoch: OnEpoch
) -> dict[str, Any]:
    """``run.train_and_test`` in a group of fresh processes, one for each device.

    Raises:
        GroupError: one of them ended or failed; says which and how.
        DivergedError, UserError: as it came up in them.
    """
    context = multiprocessing.get_context("spawn")
    store = distributed.TCPStore(HOST, 0, is_master=True, wait_for_workers=False)
    threads = max(1, torch.get_num_threads() // devices)
    members: list[_Member] = []
    try:
        for rank in range(devices):
            receiver, sender = context.Pipe(duplex=False)
            place = Place("torchrun", rank, rank, devices)
            arguments = (place, store.port, threads, folder, data_dir, device, sender)
            process = context.Process(target=_be_a_member, args=arguments)  # no daemon: it may read with workers
            process.start()
            members.append(_Member(process_name(rank, devices), process, receiver))
            sender.close()
        return _attend(members, on_epoch)
    finally:
        for member in members:
            member.process.kill()
        for member in members:
            member.process.join()


def _attend(members: list[_Member], on_epoch: OnEpoch) -> dict[str, Any]:
    """Hand rows on until all have ended; returns what the leader found.

    A process that ended without a word is the cause of what others report; else the first report is.
    """
    values: dict[str, Any] | None = None
    failures: list[tuple[float, Exception]] = []
    waiting = {member.receiver: member for member in members}
    deadline = None
    while waiting:
        for receiver in (ready := wait(list(waiting), deadline and max(0.0, deadline - time.monotonic()))):
            member = waiting[receiver]
            try:
                kind, content = receiver.recv()
            except (EOFError, OSError):
                del waiting[receiver]
                if not member.has_reported:
                    failures.append((0.0, member.why_it_ended()))
                continue
            if kind == "row":
                on_epoch(content)
                continue
            member.has_reported = True
            if kind == "failure":
                failures.append(content)
            elif content:
                values = content
        if not ready:
            break
        if failures and deadline is None:
            deadline = time.monotonic() + GRACE_SECONDS
    if values is not None:
        return values
    if not failures:
        raise GroupError("the processes ended without a result")
    raise min(failures, key=lambda failure: failure[0])[1]


def _be_a_member(
    place: Place, port: int, threads: int, folder: RunFolder, data_dir: Path, device: str, sender: Connection
) -> None:
    """A process's whole life: join, train, and send rows, values and failures."""
    threading.Thread(target=end_with_the_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which ends this
    signal.signal(signal.SIGTERM, _die_by_it)  # or Lightning would go on to the end of a step
    torch.set_num_threads(threads)
    os.environ.update(
        RANK=str(place.rank),
        LOCAL_RANK=str(place.local_rank),
        GROUP_RANK="0",
        WORLD_SIZE=str(place.size),
        LOCAL_WORLD_SIZE=str(place.size),
        MASTER_ADDR=HOST,
        MASTER_PORT=str(port),
    )
    try:
        group = join(place, place.size, 1, device, distributed.TCPStore(HOST, port, is_master=False))
        values = run.train_and_test(folder, data_dir, device, lambda row: sender.send(("row", row)), group)
        sender.send(("values", values))
        distributed.destroy_process_group()
    except Exception as error:
        told = isinstance(error, DivergedError | GroupError | UserError)
        failure = error if told else GroupError(describe_in(process_name(place.rank, place.size), error))
        failure.add_note(traceback.format_exc())
        sender.send(("failure", (time.monotonic(), failure)))
        sender.close()
        os._exit(1)  # not held up by collectives that the others will never join


def end_with_the_parent() -> None:
    """For a thread of a process that would go on, and hold what it uses, after its parent was killed."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _die_by_it(number: int, frame: object) -> None:
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
