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
    """The commit that a run was made with, marked if there were changes beside it."""
    return commit_name(mapping(record.result.get("git")), digits)


def versions(record: Record) -> str:
    """``python 3.11.7, torch 2.14.1``, by name."""
    found = mapping(record.result.get("versions"))
    return ", ".join(f"{name} {version}" for name, version in sorted(found.items())) or NOTHING
