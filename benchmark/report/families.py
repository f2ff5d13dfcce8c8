"""Which rows share a panel of a figure: a baseline and what is compared with it."""

from collections.abc import Iterable
from typing import NamedTuple

from benchmark.report.sections import Section


class RowFamily(NamedTuple):
    """Rows of a table; ``baseline`` is what all others of them are compared with, None if there is no such row."""

    baseline: str | None
    rows: list[str]


def families(section: Section, rows: Iterable[str]) -> list[RowFamily]:
    """Each baseline with its rows; last, together, uncompared rows."""
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(section.baseline(row) or row, []).append(row)
    alone = [members[0] for members in found.values() if len(members) == 1]
    compared = [
        RowFamily(baseline if baseline in members else None, members)
        for baseline, members in found.items()
        if len(members) > 1
    ]
    return compared + ([RowFamily(None, alone)] if alone else [])


def beside(section: Section, family: RowFamily) -> str:
    """What a panel's title adds: ``, beside ResNet-20``."""
    return f", beside {section.label(family.baseline)}" if family.baseline else ""
