"""The processes that train one run together, as one of them sees it.

They agree over a process group of their own (gloo), so that a wait of hours, such as for a download, ends no
training; gradients go through torch's default group (NCCL on GPUs, gloo on CPUs), where a wait of half an hour
means that a process is lost.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeVar

import torch
from pytorch_lightning.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from torch import distributed

from benchmark import machine
from benchmark.errors import UserError
from benchmark.launchers import Place, process_name

JOIN = timedelta(minutes=5)
WAIT = timedelta(days=30)
LOST = timedelta(minutes=30)
POLL_SECONDS = 0.05
T = TypeVar("T")


class GroupError(Exception):
    """What went wrong, so said that it can stand in a record."""


class AgreedError(GroupError):
    """The group gives up a run, all of its processes at the same place: it can go on with another one."""


@dataclass(frozen=True)
class Group:
    """``devices`` processes on each of ``nodes``; ``rank`` counts them all, ``local_rank`` those of a node.

    ``environment`` is what Lightning calls this.
    """

    devices: int = 1
    nodes: int = 1
    rank: int = 0
    local_rank: int = 0
    environment: ClusterEnvironment = field(default_factory=LightningEnvironment)
    control: distributed.ProcessGroup | None = None
    store: distributed.Store | None = None

    @property
    def size(self) -> int:
        return self.devices * self.nodes

    @property
    def leads(self) -> bool:
        """Whether this is the one process that writes and prints."""
        return self.rank == 0

    @property
    def name(self) -> str:
        return process_name(self.rank, self.size)

    def broadcast(self, value: T | None = None) -> T:
        """The leader's value, in every process."""
        if self.size == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0, group=self.control, device=torch.device("cpu"))
        return box[0]

    def gather(self, value: T) -> list[T]:
        """Every process's value, in the order of ranks."""
        if self.size == 1:
            return [value]
        values: list[T | None] = [None] * self.size
        distributed.all_gather_object(values, value, group=self.control)
        return values

    def decide(self, action: Callable[[], T]) -> T:
        """What the leader's ``action`` returns.

        Raises:
            AgreedError: it raised an error. A single process raises the error itself.
        """
        if self.size == 1:
            return action()
        value = failure = cause = None
        if self.leads:
            try:
                value = action()
            except Exception as error:
                failure, cause = describe(error), error
        value, failure = self.broadcast((value, failure))
        if failure is not None:
            raise AgreedError(failure) from cause
        return value


def describe(error: BaseException) -> str:
    """An error in one line, as it stands in a record."""
    if isinstance(error, GroupError):
        return str(error)
    return " ".join(f"{type(error).__name__}: {error}".split())[:500]


def join(place: Place, devices: int, nodes: int, device_name: str, store: distributed.Store | None = None) -> Group:
    """Meet the others and set torch up; returns once all are there.

    Args:
        place: of this process.
        devices, nodes: how many.
        device_name: as ``machine.choose_device`` takes it.
        store: where to meet; by default at MASTER_ADDR and MASTER_PORT, or where SLURM's variables say.

    Raises:
        UserError: one of them lacks its device (in every process), or not all came in time.
    """
    environment = SLURMEnvironment(auto_requeue=False) if place.launcher == "srun" else TorchElasticEnvironment()
    problem, device = "", "cpu"
    try:
        device = machine.choose_device(device_name)
        check_devices(device, devices)
    except UserError as error:
        problem = str(error)
    store = store or _meet(environment, place)
    _exchange(store, place, problem)
    if device == "cuda":
        torch.cuda.set_device(place.local_rank)
    distributed.init_process_group(
        "nccl" if device == "cuda" else "gloo",
        store=store,
        rank=place.rank,
        world_size=place.size,
        timeout=LOST,
        device_id=torch.device("cuda", place.local_rank) if device == "cuda" else None,
    )
    control = distributed.new_group(backend="gloo", timeout=WAIT)
    return Group(devices, nodes, place.rank, place.local_rank, environment, control, store)


def check_devices(device: str, devices: int) -> None:
    """Raises:
    UserError: this machine has fewer.
    """
    available = machine.count_devices(device)
    if devices > available:
        kind = "GPU" if device == "cuda" else "CPU core"
        have = f"{available} {kind}{'' if available == 1 else 's'}"
        raise UserError(f"--devices {devices} asks for more than the {have} of this machine")


def _meet(environment: ClusterEnvironment, place: Place) -> distributed.Store:
    os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = environment.main_address, str(environment.main_port)
    try:
        store, _, _ = next(distributed.rendezvous("env://", place.rank, place.size, timeout=JOIN))
    except (distributed.DistError, OSError, RuntimeError, ValueError) as error:
        where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        reason = str(error).splitlines()[0]
        raise UserError(f"the {place.size} processes cannot meet at {where}: {reason}") from error
    return store


def _exchange(store: distributed.Store, place: Place, problem: str) -> None:
    """Raises:
    UserError: the first problem that any process has, or some did not come.
    """
    store.set(f"problem/{place.rank}", problem)
    keys = [f"problem/{rank}" for rank in range(place.size)]
    deadline = time.monotonic() + JOIN.total_seconds()
    while not store.check(keys):
        if time.monotonic() > deadline:
            minutes = int(JOIN.total_seconds() / 60)
            raise UserError(f"not all of the {place.size} processes started within {minutes} minutes")
        time.sleep(POLL_SECONDS)
    for key in keys:
        if text := store.get(key).decode():
            raise UserError(text)
