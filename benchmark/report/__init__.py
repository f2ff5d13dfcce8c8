"""Tables and plots from run records alone. ``from benchmark.report import load_results`` gives a DataFrame.

Importing this package is cheap: pandas and matplotlib are imported with the first name that needs them.
"""

import importlib
from typing import Any

_HOMES = {
    "load_results": "tables",
    "write_tables": "tables",
    "console_text": "tables",
    "write_learning_curves": "plots",
    "summarize": "statistics",
    "paired_difference": "statistics",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_HOMES)
