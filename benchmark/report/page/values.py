"""Values of a record as text."""

from collections.abc import Mapping
from typing import Any

from benchmark.commits import COMMIT_DIGITS, commit_name
from benchmark.ledger import Record
from benchmark.report.layout import NOTHING


def mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def settings(values: Mapping[str, Any]) -> str:
    """``batch_size=128, milestones=[0.5, 0.75]``; a dash for none."""
    return ", ".join(f"{name}={value}" for name, value in values.items()) or NOTHING


def commit(record: Record, digits: int | None = COMMIT_DIGITS) -> str:
    """The commit that a run was made with, marked if there were changes beside it; or all of them."""
    return " and ".join(record.of_parts(lambda part: commit_name(mapping(part.get("git")), digits)))


def versions(record: Record) -> str:
    """``python 3.11.7, torch 2.14.1``, by name; all sets, if the run went on with another."""
    return " and ".join(record.of_parts(_versions))


def _versions(part: Mapping[str, Any]) -> str:
    found = mapping(part.get("versions"))
    return ", ".join(f"{name} {version}" for name, version in sorted(found.items())) or NOTHING
