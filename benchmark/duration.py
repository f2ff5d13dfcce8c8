"""Seconds as people say them."""

import math


def format_duration(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3.4 h`` or ``2.1 days``."""
    if not math.isfinite(seconds):
        return "?"
    for limit, unit, name, digits in ((90, 1, "s", 0), (5400, 60, "min", 0), (172_800, 3600, "h", 1)):
        if seconds < limit:
            return f"{seconds / unit:.{digits}f} {name}"
    return f"{seconds / 86_400:.1f} days"
