"""Long work on many images: in order over threads, with its progress shown."""

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from rich.console import Console
from rich.progress import track


def map_in_order(pool: ThreadPoolExecutor, function: Callable, items: Iterable, ahead: int) -> Iterator[Any]:
    """``pool.map`` that holds at most ``ahead`` items in memory."""
    pending: deque = deque()
    for item in items:
        pending.append(pool.submit(function, item))
        if len(pending) >= ahead:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def show_progress(items: Iterable, total: int, what: str, line: str) -> Iterable:
    """A bar that says ``what`` on a terminal; elsewhere one ``line`` before the work starts."""
    console = Console(stderr=True)
    if console.is_terminal:
        return track(items, what, total, console=console, transient=True)
    print(line, file=sys.stderr)
    return items
