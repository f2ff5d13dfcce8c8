"""What the C library does with memory that a training step frees on a CPU.

glibc gives large blocks back to the system at once, so each step pays again for new, cleared pages. Where the
process keeps them instead, steps are faster, most in dense networks with their many large tensors (docs/speed.md).
"""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of ``mallopt``, from glibc's malloc.h."""

LARGEST_BLOCK = 2**31 - 1
USUAL_BLOCK = 2**25
"""Bytes; to this glibc raises its threshold for large blocks by itself, on systems of 64 bits."""


@contextmanager
def keeping_freed_memory() -> Iterator[None]:
    """Inside, freed blocks of any size stay with the process; afterwards, what was kept goes back.

    Nothing changes without glibc, or where the user has tuned it.
    """
    libc = _tunable_libc()
    if libc is None:
        yield
        return
    _keep_blocks_below(LARGEST_BLOCK, libc)
    try:
        yield
    finally:
        _keep_blocks_below(USUAL_BLOCK, libc)
        libc.malloc_trim(0)


def _keep_blocks_below(size: int, libc: ctypes.CDLL) -> None:
    libc.mallopt(M_MMAP_THRESHOLD, size)
    libc.mallopt(M_TRIM_THRESHOLD, min(2 * size, LARGEST_BLOCK))


def _tunable_libc() -> ctypes.CDLL | None:
    """The process's glibc; None where there is another library or the environment tunes it."""
    if sys.platform != "linux" or any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None
