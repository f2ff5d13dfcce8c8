"""The one exception that the command line shows without a traceback."""

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class UserError(Exception):
    """A user's mistake: one line that says what was wrong and what would be right (exit code 2)."""


@contextmanager
def told_as(name: str) -> Iterator[None]:
    """Where a network is built from a user's options: what it cannot be built with is the user's mistake.

    Raises:
        UserError: in place of what was raised; ``name`` says of which network.
    """
    try:
        yield
    except (ValueError, TypeError, RuntimeError, IndexError, ArithmeticError) as error:
        raise UserError(f"{name}: {str(error).splitlines()[0]}") from error


def closest(name: str, names: Iterable[str]) -> str:
    """Name the valid spellings nearest to ``name``, or all of them if none is near."""
    names = list(names)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(near)}?" if near else f"valid: {', '.join(names)}"
