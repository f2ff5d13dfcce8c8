"""Options as users give them: what is not one, or not of its kind, is refused with the valid ones named."""

import inspect
import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch

Value = TypeVar("Value")
LARGEST = torch.finfo(torch.float32).max


class UnknownOptionError(ValueError):
    """Names the options that are not any, and the valid ones."""


def is_integer(value: object) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_finite(value: object) -> bool:
    """Whether it is a number that float32 holds."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and abs(value) <= LARGEST


KINDS: dict[object, tuple[str, Callable[[object], bool]]] = {
    bool: ("True or False", lambda value: isinstance(value, bool)),
    int: ("an integer", is_integer),
    float: ("a finite float32 number", is_finite),
    float | None: ("a finite float32 number", lambda value: value is None or is_finite(value)),
}
"""Of an option's annotation: what its value must be, in words and as a test."""


def plain(value: Any) -> Any:
    """Numbers, arrays and sequences of other libraries as Python's own, also inside of lists and mappings."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(plain, value))
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [*map(plain, value)]
    return value.tolist() if hasattr(value, "tolist") else value


def choice(name: str, value: Value, valid: Sequence[Value]) -> Value:
    """``value`` if it is valid.

    Raises:
        ValueError: names the valid ones.
    """
    if value not in valid:
        raise ValueError(f"unknown {name} {value!r}; valid: {', '.join(map(str, valid))}")
    return value


def count_units(depth: int, unit: int, others: int) -> int:
    """n of depth = unit n + others.

    Raises:
        ValueError: names the nearest valid depths.
    """
    n, rest = divmod(depth - others, unit)
    if rest or n < 1:
        below = max(unit * n, unit) + others
        raise ValueError(f"depth {depth} is not {unit}n + {others}; the nearest are {below} and {below + unit}")
    return n


def option_parameters(builder: Callable) -> dict[str, inspect.Parameter]:
    """What it can be given by name; of a class that passes ``**options`` on, its base's as well."""
    found: dict[str, inspect.Parameter] = {}
    for base in builder.__mro__ if isinstance(builder, type) else (builder,):
        found = {**inspect.signature(base).parameters, **found}
        if not _passes_options_on(base):
            break
    unnamed = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {name: p for name, p in found.items() if p.kind not in unnamed}


def accept_options(method: str, builder: Callable, options: Mapping[str, object], hidden: set[str]) -> None:
    """Check that ``builder`` has the options; ``hidden`` are arguments that are not a user's to give.

    A function with ``**options`` has all of them.

    Raises:
        UnknownOptionError: the builder does not have them.
        ValueError: see ``check_values``.
    """
    parameters = option_parameters(builder)
    accepted = set(parameters) - hidden
    takes_all = _passes_options_on(builder) and not isinstance(builder, type)
    if not takes_all and (unknown := sorted(set(options) - accepted)):
        valid = ", ".join(sorted(accepted)) or "none"
        raise UnknownOptionError(f"{method} does not take {', '.join(unknown)}; its options: {valid}")
    check_values(parameters, options)


def _passes_options_on(builder: Callable) -> bool:
    return any(p.kind is p.VAR_KEYWORD for p in inspect.signature(builder).parameters.values())


def check_values(parameters: Mapping[str, inspect.Parameter], options: Mapping[str, object]) -> None:
    """Raises:
    ValueError: one of the ``parameters`` is not of the kind that its annotation says; "no" would be taken for on.
    """
    for name, value in options.items():
        wanted, fits = KINDS.get(parameters[name].annotation if name in parameters else None, ("", None))
        if fits and not fits(value):
            raise ValueError(f"{name} must be {wanted}, got {value!r}")
