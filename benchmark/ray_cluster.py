"""The Ray that runs are given to: one of this command's own, or a cluster that is there. Imports no torch.

A local Ray lives as long as the command. The kernel ends its main processes with the command, whatever ends that;
``orphans`` ends the rest.
"""

import contextlib
import importlib.util
import logging
import math
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchmark.errors import UserError

SECONDS_TO_ANSWER = 30
LOCAL = "local"
SHARE_DIGITS = 4
"""Decimals of a share of a GPU that Ray keeps."""
OBJECT_STORE_BYTES = 100 * 2**20
"""Runs hand no data through Ray; without a limit it reserves a third of the memory."""
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # the coming default; the old one warns
    "RAY_worker_niceness": "0",  # else runs have the lowest priority on the machine
    "RAY_prestart_worker_first_driver": "0",  # a worker for each core, used or not
}


@dataclass(frozen=True)
class RayOptions:
    """``address`` None means ``$RAY_ADDRESS``, or a Ray of the command's own."""

    address: str | None = None
    runs_per_gpu: int = 1
    cpus_per_run: int = 1

    def __post_init__(self) -> None:
        """Raises:
        UserError: a number below 1, or more runs on a GPU than Ray can tell apart.
        """
        for option, value in (("--runs-per-gpu", self.runs_per_gpu), ("--cpus-per-run", self.cpus_per_run)):
            if value < 1:
                raise UserError(f"{option} is {value}; it must be at least 1")
        if self.runs_per_gpu > 10**SHARE_DIGITS:
            raise UserError(
                f"--runs-per-gpu is {self.runs_per_gpu}; Ray divides a GPU into at most {10**SHARE_DIGITS:,}"
            )

    @property
    def place(self) -> str:
        """An address, "auto" for the cluster that this machine belongs to, or ``LOCAL``."""
        asked = self.address or LOCAL
        return os.environ.get("RAY_ADDRESS", asked) if self.address in (None, "auto") else asked


@dataclass(frozen=True)
class Cluster:
    """A Ray that is connected to, and what each run takes of it."""

    where: str
    cpus: int
    gpus: float

    def slots(self) -> int:
        """How many runs fit at once on the nodes that are there now."""
        return sum(self._fit(node) for node in _resources())

    def _fit(self, node: dict[str, float]) -> int:
        cpus = int(node.get("CPU", 0) // self.cpus)
        return min(cpus, int(node.get("GPU", 0) / self.gpus + 1e-9)) if self.gpus else cpus


def check(options: RayOptions) -> None:
    """That Ray is installed and answers, before anything is prepared or measured.

    Raises:
        UserError: it is not, or does not.
    """
    if importlib.util.find_spec("ray") is None:
        raise UserError("--engine ray needs Ray, an extra: pip install 'optimizer-inspired-networks[ray]'")
    place = options.place
    if place == LOCAL:
        return
    if place.startswith("ray://"):
        raise UserError(f"{place} is Ray Client's; call this on a node of the cluster with HOST:PORT or auto")
    try:
        _ask(place)
    except (OSError, ValueError, OverflowError, subprocess.TimeoutExpired) as error:
        raise UserError(
            f"no Ray answers ({place}); give --address HOST:PORT of a running one, or leave it out"
        ) from error
    except subprocess.CalledProcessError as error:
        reason = error.stderr.strip().rpartition("\n")[2]
        raise UserError(f"cannot use the Ray at {place}: {reason}") from error


def _ask(place: str) -> None:
    """In a process of its own, as ``ray.init`` would wait for two minutes.

    Raises:
        OSError, ValueError, OverflowError, subprocess.TimeoutExpired: no address, no connection, no answer.
        subprocess.CalledProcessError: it cannot be joined; ``stderr`` ends with why.
    """
    if place != "auto":
        host, _, port = place.rpartition(":")
        socket.create_connection((host, int(port)), SECONDS_TO_ANSWER).close()
    join = "import sys, ray; ray.init(address=sys.argv[1], log_to_driver=False)"
    question = [sys.executable, "-c", join, place]
    subprocess.run(
        question, env=os.environ | QUIET, capture_output=True, check=True, text=True, timeout=SECONDS_TO_ANSWER
    )


@contextlib.contextmanager
def connect(options: RayOptions, device: str) -> Iterator[Cluster]:
    """Start a local Ray or join a cluster, and leave it at the end.

    Raises:
        UserError: it cannot be joined, or no node can hold a run.
    """
    place = options.place
    defaults = QUIET | (_own_token() if place == LOCAL else {})
    os.environ.update({name: os.environ.get(name, value) for name, value in defaults.items()})
    import ray

    watchdog = None
    try:
        _init(place)
        if place == LOCAL:
            watchdog = _start_watchdog()
        gpus = _share(options.runs_per_gpu) if device == "cuda" else 0.0
        cluster = Cluster(_describe(place), options.cpus_per_run, gpus)
        if not cluster.slots():
            raise UserError(_why_no_run_fits(cluster))
        yield cluster
    finally:
        ray.shutdown()
        if watchdog:
            watchdog.communicate()


def _own_token() -> dict[str, str]:
    """Ray would keep one in the home directory, which changes how clusters are started later."""
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


def _init(place: str) -> None:
    import ray

    own = {"include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES} if place == LOCAL else {}
    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=place, log_to_driver=False, logging_level=logging.ERROR, **own)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError, OSError) as error:
        raise UserError(f"cannot use Ray ({place}): {str(error).splitlines()[0]}") from error
    finally:
        signal.signal(signal.SIGTERM, handler)  # Ray's own exits at once


def _share(runs: int) -> float:
    """1/runs rounded down as Ray counts, so that as many fit."""
    return math.floor(10**SHARE_DIGITS / runs) / 10**SHARE_DIGITS


def _resources() -> list[dict[str, float]]:
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _describe(place: str) -> str:
    nodes = _resources()
    if place == LOCAL:
        return "this machine"
    return f"{len(nodes)} node{'' if len(nodes) == 1 else 's'}"


def _why_no_run_fits(cluster: Cluster) -> str:
    most = {name: max((node.get(name, 0) for node in _resources()), default=0) for name in ("CPU", "GPU")}
    if cluster.gpus and most["GPU"] < cluster.gpus:
        return "no node of this Ray has a GPU; take --device cpu, or start Ray where the GPUs are"
    return f"no node of this Ray has {cluster.cpus} CPUs, the largest has {most['CPU']:.0f}; lower --cpus-per-run"


def _start_watchdog() -> subprocess.Popen[bytes]:
    """It ends what a local Ray leaves when this process is killed, and itself when this process ends."""
    import psutil  # comes with Ray

    ours: list[Any] = psutil.Process().children(recursive=True)
    command = [sys.executable, "-m", "benchmark.orphans", *(str(process.pid) for process in ours)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
