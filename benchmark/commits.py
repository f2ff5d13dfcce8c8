"""How a commit is named wherever one is shown."""

from collections.abc import Mapping
from typing import Any

COMMIT_DIGITS = 7


def commit_name(git: Mapping[str, Any], digits: int | None = COMMIT_DIGITS) -> str:
    """``d22a3a8``, and whether the code had uncommitted changes.

    Args:
        git: ``commit`` and ``dirty``, as in a record.
        digits: None for the whole hash.
    """
    commit = str(git.get("commit") or "unknown")[:digits]
    return f"{commit} (with uncommitted changes)" if git.get("dirty") else commit
