"""What a run ran on: device, versions, commit, peak memory."""

import contextlib
import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from benchmark.errors import UserError

PACKAGES = ("torch", "torchvision", "pytorch-lightning", "torchmetrics", "numpy")
STATUS = Path("/proc/self/status")


def choose_device(name: str) -> str:
    """ "cpu" or "cuda"; "auto" takes a GPU where there is one.

    Raises:
        UserError: unknown, or not there.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise UserError(f"unknown device {name!r}; valid: auto, cpu, cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device 'cuda' is not available on this machine; use --device cpu or auto")
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return name


def has_fast_bf16(device: str) -> bool:
    """Whether bf16 arithmetic is native: any recent GPU, or a CPU with AVX512-BF16."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported()
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return bool(supported())


def describe_device(device: str) -> str:
    """E.g. ``CPU: AMD EPYC, 2 threads`` or ``GPU: NVIDIA H200``."""
    if device == "cuda":
        return f"GPU: {torch.cuda.get_device_name()}"
    return f"CPU: {_cpu_name()}, {torch.get_num_threads()} threads"


def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        if match := re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text()):
            return " ".join(match[1].split())
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide a result."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def git_state() -> dict[str, Any]:
    """Commit and whether tracked files outside results/ differ from it; null outside a checkout."""
    root = Path(__file__).parents[1]

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True).stdout.strip()

    try:
        dirty = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!results")
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(dirty)}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": False}


def reset_peak_memory(device: str) -> None:
    """Start measuring anew; where the system cannot (not Linux), the peak is that of the whole process."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    else:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")


def peak_memory(device: str) -> int | None:
    """Peak bytes since the reset: allocated on the GPU, or resident in the process; null if unknown."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    with contextlib.suppress(OSError):
        if match := re.search(r"VmHWM:\s*(\d+) kB", STATUS.read_text()):
            return int(match[1]) * 1024
    return None
