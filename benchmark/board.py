"""What a driver shows while many runs are trained at once: a live table of what runs where.

On a terminal a table; elsewhere (a log file, CI) a line when a run starts and ends, and a summary every 30 seconds.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from benchmark.duration import format_duration
from benchmark.progress import LINE_EVERY_SECONDS, describe_end


@dataclass(frozen=True)
class Place:
    """Where a run is trained: ``slot`` is a GPU or a process of the ``node``."""

    node: str
    slot: str


@dataclass(frozen=True)
class Running:
    """A run that was handed out. ``place`` is None until it starts; ``row`` are its newest metrics, if any."""

    heading: str
    epochs: int
    seconds: float
    place: Place | None
    row: Mapping[str, float] | None

    @property
    def done(self) -> int:
        return int(self.row["epoch"]) + 1 if self.row else 0

    @property
    def seconds_left(self) -> float:
        """By the last epoch; by the plan's estimate, ``seconds``, until there is one."""
        return (self.epochs - self.done) * self.row["seconds"] if self.row else self.seconds


class Board:
    """Shows a grid of ``total`` runs. Use as a context manager."""

    def __init__(self, total: int, console: Console) -> None:
        self.total, self.console = total, console
        self.ended: dict[str, int] = {}
        self.places: dict[str, Place] = {}
        self.shown = time.monotonic()
        self.live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None

    def __enter__(self) -> "Board":
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self.live:
            self.live.update("", refresh=True)
            self.live.stop()

    def heading(self, number: int, label: str) -> str:
        return f"[{number}/{self.total}] {label}"

    def say(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def skip(self, heading: str, status: str, why: str) -> None:
        """A run that is not trained here."""
        self._count(status)
        self.say(f"{heading}: {why}")

    def end(self, heading: str, result: Mapping[str, Any]) -> None:
        """A record was written."""
        self._count(result["status"])
        self.say(f"{heading}: {describe_end(result)}")

    def update(self, running: Sequence[Running], waiting: int, seconds_left: float) -> None:
        """What runs now; ``seconds_left`` for the whole grid."""
        for run in running:
            self._tell_place(run)
        summary = self._summary(running, waiting, seconds_left)
        if self.live:
            self.live.update(_table(running, summary), refresh=True)
        elif time.monotonic() - self.shown > LINE_EVERY_SECONDS:
            self.shown = time.monotonic()
            self.say(f"    {summary}")

    def _tell_place(self, run: Running) -> None:
        before = self.places.get(run.heading)
        if run.place is None or run.place == before:
            return
        self.places[run.heading] = run.place
        where = f"on {run.place.node}, {run.place.slot}"
        if before:
            self.say(f"{run.heading}: its worker was lost; continues {where}")
        elif not self.live:
            self.say(f"{run.heading}: {where}")

    def _count(self, status: str) -> None:
        self.ended[status] = self.ended.get(status, 0) + 1

    def _summary(self, running: Sequence[Running], waiting: int, seconds_left: float) -> str:
        counts = {**self.ended, "running": len(running), "waiting": waiting}
        parts = [f"{count} {status}" for status, count in counts.items() if count]
        return f"{', '.join(parts)}; about {format_duration(seconds_left)} left"


def _table(running: Sequence[Running], summary: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, caption=summary, caption_justify="left")
    table.add_column("run", overflow="fold")
    for name in ("node", "slot"):
        table.add_column(name)
    for name in ("epoch", "error", "left"):
        table.add_column(name, justify="right", no_wrap=True)
    for run in running:
        table.add_row(
            escape(run.heading),
            escape(run.place.node) if run.place else "",
            run.place.slot if run.place else "starting",
            f"{run.done}/{run.epochs}",
            f"{run.row['eval_error']:.2f} %" if run.row else "",
            format_duration(run.seconds_left),
        )
    return table
