"""Whatever a reason or a label contains is shown as it is: rich would take brackets for its markup."""

import io

import pytest
from rich.console import Console

from benchmark.progress import Progress

REASON = "RuntimeError: [enforce fail at alloc_cpu.cpp:127] cannot write /data/[/x]/metrics.csv"


@pytest.mark.parametrize("terminal", [False, True])
def test_brackets_are_text(terminal):
    out = io.StringIO()
    with Progress(2, Console(file=out, force_terminal=terminal, width=200, color_system=None)) as progress:
        progress.skip(1, "net:table=[/b].csv", "done already")
        progress.start(2, "net:table=[/b].csv", 3, 0.0)
        progress.epoch({"epoch": 0, "seconds": 1.0, "eval_error": 50.0})
        progress.end({"status": "failed", "reason": REASON})
    assert "[1/2] net:table=[/b].csv: done already" in out.getvalue()
    assert f"failed: {REASON}" in out.getvalue()
