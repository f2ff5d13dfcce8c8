"""What a driver shows while it works: run i of N, epoch, error and time left.

On a terminal one bar; elsewhere (a log file, CI) a line for each run and at most one every 30 seconds in between.
"""

import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from benchmark.duration import format_duration

LINE_EVERY_SECONDS = 30


def describe_end(result: Mapping[str, Any]) -> str:
    """A record in a few words."""
    if result["status"] == "done":
        return f"test error {result['test_error']:.2f} % in {format_duration(result['seconds'])}"
    return f"{result['status']}: {result['reason']}"


class Progress:
    """Shows a grid of ``total`` runs. Use as a context manager."""

    def __init__(self, total: int, console: Console) -> None:
        self.total, self.console = total, console
        self.bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[detail]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task("", total=1, detail="", visible=False)

    def __enter__(self) -> "Progress":
        self.bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.bar.stop()

    def skip(self, number: int, label: str, why: str) -> None:
        self._print(f"[{number}/{self.total}] {label}: {why}")

    def start(self, number: int, label: str, epochs: int, seconds_after: float) -> None:
        """``seconds_after``: estimate for the runs that follow this one."""
        self.heading = f"[{number}/{self.total}] {label}"
        self.epochs, self.seconds_after = epochs, seconds_after
        self.shown = time.monotonic()
        shown = escape(self.heading)
        self.bar.update(self.task, description=shown, total=epochs, completed=0, detail="", visible=True)
        if not self.console.is_terminal:
            self._print(self.heading)

    def epoch(self, row: Mapping[str, float]) -> None:
        """A row of metrics came."""
        done = int(row["epoch"]) + 1
        left = (self.epochs - done) * row["seconds"] + self.seconds_after
        detail = f"epoch {done}/{self.epochs}, error {row['eval_error']:.2f} %, {format_duration(left)} left"
        self.bar.update(self.task, completed=done, detail=detail)
        if not self.console.is_terminal and time.monotonic() - self.shown > LINE_EVERY_SECONDS:
            self.shown = time.monotonic()
            self._print(f"    {detail}")

    def end(self, result: Mapping[str, Any]) -> None:
        """A record was written."""
        self.bar.update(self.task, visible=False)
        prefix = f"{self.heading}: " if self.console.is_terminal else "    "
        self._print(prefix + describe_end(result))

    def _print(self, text: str) -> None:
        """What cannot be shown must not end a run: a log on a full disk, say. A reader who went away ends it."""
        try:
            self.console.print(text, markup=False, highlight=False, soft_wrap=True)
        except BrokenPipeError:
            raise
        except OSError:
            return
