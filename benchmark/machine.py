"""What a run ran on: device, versions, commit, peak memory."""

import contextlib
import errno
import gc
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch.utils._triton import has_triton

from benchmark.commits import commit_name
from benchmark.errors import UserError

PACKAGES = ("torch", "torchvision", "pytorch-lightning", "torchmetrics", "numpy")
PRECISIONS = ("32-true", "bf16-mixed")
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


def choose_precision(name: str, device: str) -> str:
    """A precision of ``PRECISIONS``; "auto" takes bf16 where it is faster than float32.

    Raises:
        UserError: unknown, or not supported by the device.
    """
    if name == "auto":
        return "bf16-mixed" if has_fast_bf16(device) else "32-true"
    if name not in PRECISIONS:
        raise UserError(f"unknown precision {name!r}; valid: auto, {', '.join(PRECISIONS)}")
    if name == "bf16-mixed" and device == "cuda" and not torch.cuda.is_bf16_supported():
        raise UserError(f"precision bf16-mixed is not supported by {torch.cuda.get_device_name()}; take 32-true")
    return name


def has_fast_bf16(device: str) -> bool:
    """Whether training in bf16 is faster than in float32: a recent GPU, a CPU with AMX, an AMD with AVX512-BF16.

    An Intel CPU that has AVX512-BF16 without AMX gains no rate by it: in bf16 a ResNet-20 took 1.3 times as long as
    in float32 on such a Xeon, and 0.6 times on an EPYC.
    """
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if not getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)():
        return False
    return getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)() or "AuthenticAMD" in _cpu_info()


NEEDED_TO_COMPILE = {
    "cuda": "Triton (a GPU of compute capability 7.0 or more), a C compiler and Python's headers",
    "cpu": "a C++ compiler that works (g++, or what CXX names) and Python's headers",
}
"""By device: what ``torch.compile`` builds with. Triton builds what starts its kernels with a C compiler."""


def can_compile(device: str) -> bool:
    """Whether what ``torch.compile`` needs is there (``NEEDED_TO_COMPILE``)."""
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        return False
    if device == "cpu":
        usual = "clang++" if sys.platform == "darwin" else "g++"
        return _works(os.environ.get("CXX", usual))
    return has_triton() and bool(os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang"))


def _works(compiler: str) -> bool:
    """Whether it is there and starts: one whose libraries are missing does not."""
    try:
        return subprocess.run([compiler, "--version"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def describe_device(device: str, devices: int = 1, nodes: int = 1) -> str:
    """E.g. ``CPU: AMD EPYC, 2 threads``, ``GPU: NVIDIA H200`` or ``GPU: 2 nodes of 8 x NVIDIA H200``."""
    nodes_of = f"{nodes} nodes of " if nodes > 1 else ""
    if device == "cuda":
        several = f"{nodes_of}{devices} x " if devices * nodes > 1 else ""
        return f"GPU: {several}{torch.cuda.get_device_name()}"
    several = f" {nodes_of}{_count(devices, 'process', 'processes')} of" if devices * nodes > 1 else ""
    return f"CPU: {_cpu_name()},{several} {_count(torch.get_num_threads(), 'thread', 'threads')}"


def has_mps() -> bool:
    """Whether NVIDIA's Multi-Process Service is there: kernels of several processes then run on a GPU at once.

    Without it processes take turns on a GPU, whatever part of it their kernels fill.
    """
    folder = os.environ.get("CUDA_MPS_PIPE_DIRECTORY") or "/tmp/nvidia-mps"
    with socket.socket(socket.AF_UNIX) as asked:
        try:
            asked.connect(os.path.join(folder, "control"))
        except OSError as error:  # nobody listens, unless to another kind of socket
            return error.errno == errno.EPROTOTYPE
    return True


def count_devices(device: str) -> int:
    """GPUs of this machine, or the cores that a process each may have."""
    return torch.cuda.device_count() if device == "cuda" else os.cpu_count() or 1


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _cpu_name() -> str:
    if match := re.search(r"model name\s*: (.+)", _cpu_info()):
        return " ".join(match[1].split())
    return platform.processor() or platform.machine()


def _cpu_info() -> str:
    """Linux's description of the processor, or nothing elsewhere."""
    with contextlib.suppress(OSError):
        return Path("/proc/cpuinfo").read_text()
    return ""


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide a result."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def git_state() -> dict[str, Any]:
    """Commit and whether tracked files outside results/ differ from it.

    Outside a checkout, as in a copy without ``.git`` or in site-packages, wherever they lie, the commit is
    ``OIN_COMMIT``'s, or null.
    """
    root = Path(__file__).parents[1]

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True).stdout.strip()

    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        if Path(git("rev-parse", "--show-toplevel")).samefile(root):  # and not another project's around it
            dirty = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!results")
            return {"commit": git("rev-parse", "HEAD"), "dirty": bool(dirty)}
    return {"commit": os.environ.get("OIN_COMMIT") or None, "dirty": False}


def environment(device: str, devices: int = 1, nodes: int = 1) -> dict[str, Any]:
    """What decides a run's numbers beside what was asked: ``device`` (in words), ``versions`` and ``git``."""
    return {"device": describe_device(device, devices, nodes), "versions": versions(), "git": git_state()}


def origin(device: str) -> dict[str, str]:
    """What a number is of, in words: ``device``, ``torch`` (its version) and ``commit``."""
    found = environment(device)
    return {"device": found["device"], "torch": found["versions"]["torch"], "commit": commit_name(found["git"])}


def free_memory(device: str) -> None:
    """Free what ended runs still hold: Trainers and models refer to each other until they are collected.

    Compiled code too: torch counts the graphs of a ``forward`` over all networks that share it, and after a few
    silently leaves the rest uncompiled.
    """
    gc.collect()
    if "torch._dynamo" in sys.modules:  # else nothing was compiled, and importing it takes seconds
        torch.compiler.reset()
    if device == "cuda":
        torch.cuda.empty_cache()


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
