"""Words of the command line as values."""

import ast
import csv
import json
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmark.errors import UserError, closest
from benchmark.specs import NetworkSpec, Row, matches

DERIVED = {"num_classes": "data", "in_channels": "data", "steps": "depth"}
"""A network's arguments that are not options, and what they follow from."""

RESERVED = ("self", "name")
"""Words of Python's and of the registry's in a network's call."""

BETWEEN_OPTIONS = re.compile(r",(?![^\[\](){}]*[\])}])")
"""Commas, but those inside brackets, as in ``widths=[8,16]``."""


def parse_seeds(words: Iterable[str]) -> list[int]:
    """Seeds from the command line, in order, without repeats.

    Raises:
        UserError: one is not an integer in [0, 2^32).
    """
    seeds = []
    for word in words:
        for part in word.replace(",", " ").split():
            if not part.isascii() or not part.isdigit() or len(part) > 10 or int(part) >= 2**32:
                raise UserError(f"seed {part!r} is not an integer from 0 to 2^32 - 1; write e.g. --seeds 0 1 2")
            seeds.append(int(part))
    return list(dict.fromkeys(seeds))


def check_globs(globs: Iterable[str], names: Iterable[str], what: str, valid: Iterable[str]) -> None:
    """Whether each of them matches a name, so that none of what was asked for is left out in silence.

    Args:
        what: of names, as "measured network".
        valid: names to suggest.

    Raises:
        UserError: one matches nothing.
    """
    names = list(names)
    for glob in globs:
        if not any(matches(name, glob) for name in names):
            raise UserError(f"no {what} matches {glob}; {closest(glob, valid)}")


def parse_counts(words: Iterable[str], example: str) -> list[int]:
    """Positive integers below 10^9 from the command line, in order, without repeats.

    Args:
        example: of the option as it should be written.

    Raises:
        UserError: one is not.
    """
    for word in words:
        if not word.isascii() or not word.isdigit() or len(word) > 9 or int(word) < 1:
            raise UserError(f"count {word!r} is not a positive integer below 10^9; write e.g. {example}")
    return list(dict.fromkeys(map(int, words)))


def parse_network(text: str) -> Row:
    """``cifar_hbnet20:reading=fixed_point,depth=26`` as a row; the text is its key and label.

    ``table=FILE.csv`` puts the file's numbers in place of its name, so that a run's id follows from them.

    Raises:
        UserError: an option is not ``name=value`` or not a user's to give, or a table cannot be read.
    """
    name, _, rest = text.partition(":")
    options = {}
    for item in filter(None, BETWEEN_OPTIONS.split(rest)):
        key, equals, value = item.partition("=")
        if not equals or not key.isidentifier():
            raise UserError(f"option {item!r} of {name} is not name=value; write e.g. {name}:reading=fixed_point")
        if key in RESERVED:
            raise UserError(f"{name} has no option {key}; see python -m benchmark show {name}")
        if key in options:
            raise UserError(f"option {key} of {name} is given twice; leave out one of them")
        if key in DERIVED:
            raise UserError(f"option {key} of {name} follows from the {DERIVED[key]}; leave it out")
        options[key] = read_table(Path(value)) if key == "table" else _value(value)
    return Row(text, text, NetworkSpec(name, options))


def read_table(path: Path) -> list[list[float]]:
    """Numbers of a csv file without a heading, row by row; empty cells at the end of a row are left out.

    Raises:
        UserError: there is no such file, or a cell is not a number; says where.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            rows = [(reader.line_num, row) for row in reader if any(map(str.strip, row))]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"step table {path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    table = []
    for line, row in rows:
        last = max(column for column, cell in enumerate(row) if cell.strip())
        table.append([_number(cell, f"step table {path}, line {line}") for cell in row[: last + 1]])
    return table


def _number(cell: str, where: str) -> float:
    try:
        if "_" in cell:  # which Python takes for the 10 in 1_0
            raise ValueError
        return float(cell)
    except ValueError:
        raise UserError(f"{where}: {cell.strip()!r} is not a number; write e.g. 0.25,1.25") from None


def _value(text: str) -> Any:
    """A Python literal that a record can hold, true or false in any case, or the text itself."""
    try:
        value = ast.literal_eval(text.capitalize() if text.lower() in ("true", "false") else text)
        json.dumps(value)
    except (ValueError, SyntaxError, TypeError, MemoryError):
        return text
    return value


def parse_definition(value: str | float | None) -> int:
    """The definition of a network in a cell of a table; 1 in an empty one, from before there were more.

    Raises:
        ValueError: it is no whole number from 1 on.
    """
    number = 1.0 if value in (None, "") else float(value)
    if math.isnan(number):
        return 1
    if not (number.is_integer() and number >= 1):
        raise ValueError(f"definition {value!r} is no whole number from 1 on")
    return int(number)
