"""Where decoded images are kept, and files that are whole or absent."""

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock

from datamodules.errors import DataError


def user_path(path: str | Path) -> Path:
    """The path, from the home directory if it begins with ``~``; without such a user it stays as it is."""
    return Path(os.path.expanduser(path))


def cache_folder(cache_dir: str | Path | None = None) -> Path:
    """``cache_dir``, else ``$OIN_CACHE_DIR``, else ``~/.cache/optimizer-inspired-networks``."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    return user_path(cache_dir or os.environ.get("OIN_CACHE_DIR") or base / "optimizer-inspired-networks")


def make_once(path: Path, is_there: Callable[[], bool], make: Callable[[], None]) -> None:
    """``make`` the file unless it is there, for the first of the processes that ask at once; the others wait.

    What a process that was killed left beside it is removed.

    Raises:
        DataError: the folder cannot be used.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if not is_there():
                for leftover in path.parent.glob(f"{path.stem}.*.tmp"):
                    leftover.unlink()
                make()
    except OSError as error:
        raise DataError(f"cache directory {path.parent} cannot be used: {error.strerror or error}") from error


def replace_atomically(path: Path, write: Callable[[Any], Any]) -> None:
    """``write`` to a file beside ``path``, sync it, and rename it to ``path``."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f"{path.stem}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
