"""Tables and plots from run records alone. ``from benchmark.report import load_results`` gives a DataFrame.

Importing this package is cheap: pandas is imported with the first name that needs it.
"""

from typing import Any

__all__ = ["load_results"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from benchmark.report.tables import load_results

    return load_results
