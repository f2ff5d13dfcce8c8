"""Memory that a step frees is there for the next one: counted in page faults, which do not depend on the clock."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, torch
from contextlib import nullcontext
from benchmark.allocation import keeping_freed_memory

def faults(steps):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(steps):
        torch.ones(2**24)  # 64 MiB in 16,384 pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

torch.set_num_threads(1)
usual = faults(5)
with keeping_freed_memory():
    faults(20)  # until the gaps that alignment leaves are used up
    kept = faults(5)
print(usual, kept, faults(5))
"""
PAGES = 2**26 // 4096


def count_faults(**environment: str) -> tuple[int, int, int]:
    """Of five steps as usual, while memory is kept, and afterwards."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    run = [sys.executable, "-c", PROGRAM]
    output = subprocess.run(run, capture_output=True, text=True, check=True, env={**clean, **environment}).stdout
    usual, kept, after = map(int, output.split())
    return usual, kept, after


@pytest.mark.skipif(sys.platform != "linux" or not hasattr(os, "confstr"), reason="needs glibc")
def test_freed_blocks_are_kept_inside_and_returned_as_usual_outside():
    """Where a kept block happens to lie below another one, glibc uses its place again afterwards, one time in four.

    Its pages are new ones then, too; for the rest it is tried again.
    """
    for _ in range(10):
        usual, kept, after = count_faults()
        assert usual >= 5 * PAGES
        assert kept < PAGES
        assert after >= PAGES
        if after >= 5 * PAGES:
            break
    assert after >= 5 * PAGES


@pytest.mark.skipif(sys.platform != "linux", reason="needs glibc")
def test_what_the_user_tuned_stays():
    usual, kept, _ = count_faults(MALLOC_TOP_PAD_="0")
    assert kept >= 5 * PAGES <= usual
