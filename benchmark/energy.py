"""The energy that a device has used, where it tells: NVIDIA's NVML for a GPU, Linux's RAPL counters for a CPU."""

import contextlib
from pathlib import Path
from typing import Any

import torch

POWERCAP = Path("/sys/class/powercap")
PACKAGES = "intel-rapl:?"
"""One a socket, also on AMD; what lies below a socket (cores, memory) has a longer name."""


class EnergyMeter:
    """Joules since ``start``; None if the device does not tell.

    A GPU's counter is of the whole board, a CPU's of all its sockets: other work on them counts too.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self.started: float | None = None

    def start(self) -> None:
        self.started = read_joules(self.device)

    @property
    def joules(self) -> float | None:
        now = read_joules(self.device)
        if now is None or self.started is None or now < self.started:  # a counter that came round
            return None
        return now - self.started


def read_joules(device: str) -> float | None:
    """The device's counter, in joules since some moment; None if it has none or may not be read."""
    return _gpu_joules() if device == "cuda" else _cpu_joules()


def _gpu_joules() -> float | None:
    """Through nvidia-ml-py, if it is installed; GPUs before Volta have no counter."""
    with contextlib.suppress(Exception):
        nvml = _nvml()
        identity = torch.cuda.get_device_properties(torch.cuda.current_device()).uuid
        handle = nvml.nvmlDeviceGetHandleByUUID(f"GPU-{identity}")
        return nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3
    return None


def _nvml() -> Any:
    import pynvml

    pynvml.nvmlInit()
    return pynvml


def _cpu_joules() -> float | None:
    """Root alone may read the counters of most kernels."""
    try:
        counters = [int((package / "energy_uj").read_text()) for package in POWERCAP.glob(PACKAGES)]
    except (OSError, ValueError):
        return None
    return sum(counters) / 1e6 if counters else None
