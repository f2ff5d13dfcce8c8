"""Numbers of a record: what a run did not measure is missing, never zero."""

import math
from typing import Any


def number(value: Any) -> float | None:
    """A finite number, or None."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and math.isfinite(value) else None
