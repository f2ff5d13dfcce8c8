"""The energy that a device has used, where it tells: NVIDIA's NVML for a GPU, Linux's RAPL counters for a CPU."""

import contextlib
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

POWERCAP = Path("/sys/class/powercap")
PACKAGES = "intel-rapl:?"
"""One a socket, also on AMD; what lies below a socket (cores, memory) has a longer name."""

INTERVAL = 5.0
"""Seconds between two looks at a CPU's counters: AMD's come round at 65 kJ, minutes of a large socket's work."""


@dataclass(frozen=True)
class Counter:
    """Joules since some moment; starts again at 0 when it reaches ``limit``."""

    joules: float
    limit: float = math.inf

    def since(self, before: "Counter") -> float:
        """Joules from ``before`` to now, if the counter wrapped at most once."""
        spent = self.joules - before.joules
        return spent if spent >= 0 else spent + self.limit


class EnergyMeter:
    """Joules since ``start``; None if the device does not tell.

    A GPU's counter is of the whole board, a CPU's of all its sockets: other work on them counts too.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self.spent: float | None = None
        self.last: list[Counter] = []
        self.looked = 0.0

    def start(self) -> None:
        self.spent, self.last = 0.0, read_counters(self.device)
        self.looked = time.monotonic()

    def look(self) -> None:
        """Call while a CPU works, so that no counter wraps unseen; a GPU's do not wrap."""
        if self.device != "cuda" and time.monotonic() - self.looked >= INTERVAL:
            self._add()

    @property
    def joules(self) -> float | None:
        self._add()
        return self.spent

    def _add(self) -> None:
        now = read_counters(self.device)
        if self.spent is None or not now or len(now) != len(self.last):
            self.spent = None
        else:
            spent = self.spent + sum(counter.since(before) for counter, before in zip(now, self.last, strict=True))
            self.spent = spent if math.isfinite(spent) else None
        self.last, self.looked = now, time.monotonic()


def read_counters(device: str) -> list[Counter]:
    """The device's counters; none if it has none or they may not be read."""
    return _gpu_counters() if device == "cuda" else _cpu_counters()


def _gpu_counters() -> list[Counter]:
    """Through nvidia-ml-py, if it is installed; GPUs before Volta have no counter."""
    with contextlib.suppress(Exception):
        nvml = _nvml()
        identity = torch.cuda.get_device_properties(torch.cuda.current_device()).uuid
        handle = nvml.nvmlDeviceGetHandleByUUID(f"GPU-{identity}")
        return [Counter(nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3)]
    return []


def _nvml() -> Any:
    import pynvml

    pynvml.nvmlInit()
    return pynvml


def _cpu_counters() -> list[Counter]:
    """On most kernels only root may read the counters."""

    def joules(path: Path) -> float:
        return int(path.read_text()) / 1e6

    try:
        return [
            Counter(joules(package / "energy_uj"), joules(package / "max_energy_range_uj"))
            for package in sorted(POWERCAP.glob(PACKAGES))
        ]
    except (OSError, ValueError):
        return []
