"""Words of the command line as values."""

import ast
from collections.abc import Iterable

from benchmark.errors import UserError
from benchmark.specs import NetworkSpec, Row


def parse_seeds(words: Iterable[str]) -> list[int]:
    """Seeds from the command line, in order, without repeats.

    Raises:
        UserError: one is not an integer in [0, 2^32).
    """
    seeds = []
    for word in words:
        for part in word.replace(",", " ").split():
            if not part.isascii() or not part.isdigit() or int(part) >= 2**32:
                raise UserError(f"seed {part!r} is not an integer from 0 to 2^32 - 1; write e.g. --seeds 0 1 2")
            seeds.append(int(part))
    return list(dict.fromkeys(seeds))


def parse_counts(words: Iterable[str]) -> list[int]:
    """Positive integers from the command line, in order, without repeats.

    Raises:
        UserError: one is not.
    """
    for word in words:
        if not word.isascii() or not word.isdigit() or int(word) < 1:
            raise UserError(f"count {word!r} is not a positive integer; write e.g. --pack 1 2 4 8")
    return list(dict.fromkeys(map(int, words)))


def parse_network(text: str) -> Row:
    """``cifar_hbnet20:reading=fixed_point,depth=26`` as a row; the text is its key and label.

    Raises:
        UserError: an option is not ``name=value``.
    """
    name, _, rest = text.partition(":")
    options = {}
    for item in filter(None, rest.split(",")):
        key, equals, value = item.partition("=")
        if not equals or not key.isidentifier():
            raise UserError(f"option {item!r} of {name} is not name=value; write e.g. {name}:reading=fixed_point")
        try:
            options[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            options[key] = value
    return Row(text, text, NetworkSpec(name, options))
