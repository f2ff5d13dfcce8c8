"""Where decoded images are kept, and files that are whole or absent."""

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any


def cache_folder(cache_dir: str | Path | None = None) -> Path:
    """``cache_dir``, else ``$OIN_CACHE_DIR``, else ``~/.cache/optimizer-inspired-networks``."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return Path(cache_dir or os.environ.get("OIN_CACHE_DIR") or base / "optimizer-inspired-networks")


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
