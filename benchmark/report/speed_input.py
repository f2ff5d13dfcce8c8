"""The table of the input path: what one core reads, and how many cores a GPU's rate asks for."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark.commits import commit_name
from benchmark.errors import UserError
from benchmark.ledger import write_atomically
from benchmark.report.layout import three_digits
from benchmark.report.speed import markdown_table, merge, slug

Row = Mapping[str, Any]
Rates = Mapping[str, float]
"""Images per second that are consumed, by what consumes them."""


def write_input(results: Path, rows: Sequence[Row], asked: float | None, environment: Row) -> list[Path]:
    """Write ``tables/speed-<device>-input.md`` and its csv; rows of other photographs that are there stay.

    Args:
        results: the results directory; its other speed tables say what GPUs consume.
        rows: as ``measure_input`` gives them.
        asked: a rate to feed (images per second) beside those, or None.
        environment: ``device`` (the processor), ``versions`` and ``git``.

    Raises:
        UserError: a speed table that is there cannot be read.
    """
    tables = Path(results) / "tables"
    rates = measured_rates(tables) | ({f"{asked:,.0f} images/s": asked} if asked else {})
    stem = f"speed-{slug(environment['device'])}-input"
    paths = [tables / f"{stem}.csv", tables / f"{stem}.md"]
    origin = {"torch": environment["versions"]["torch"], "commit": commit_name(environment["git"])}
    rows = merge(paths[0], [{**row, **origin} for row in rows], _key)
    write_atomically(paths[0], pd.DataFrame(rows).to_csv(index=False, float_format="%.5g", lineterminator="\n"))
    write_atomically(paths[1], to_text(rows, rates, environment["device"]))
    return paths


def check_input(results: Path, processor: str) -> None:
    """Before measuring.

    Raises:
        UserError: a speed table that is there cannot be read.
    """
    tables = Path(results) / "tables"
    measured_rates(tables)
    merge(tables / f"speed-{slug(processor)}-input.csv", (), _key)


def measured_rates(tables: Path) -> dict[str, float]:
    """Training images per second of every ImageNet network that was measured on a GPU, beside torchvision's."""
    rates = {}
    for path in sorted(tables.glob("speed-gpu-*-torchvision.csv")):
        device = path.stem.removeprefix("speed-").removesuffix("-torchvision")
        try:
            for row in pd.read_csv(path).to_dict("records"):
                settings = f"{row['precision']}, batch {row['batch size']}"
                rates[f"{row['network']}, {device}, {settings}"] = float(row["ours images/s"])
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{path} is not a table of speeds ({error!r}); move it away") from error
    return rates


def to_text(rows: Sequence[Row], rates: Rates, processor: str) -> str:
    """The tables and what they were measured on, as Markdown."""
    lines = [
        {
            "photographs": f"{row['data']}, {row['images']}",
            "kB each": f"{row['kB']:.0f}",
            "read from": row["from"],
            "images/s a core": f"{row['images/s']:,.0f}",
            "ms an image": three_digits(1000 / row["images/s"]),
        }
        for row in rows
    ]
    parts = ["# Speed of the input path", markdown_table(lines, text_columns=1)]
    if rates:
        needed = [
            {
                "to feed": name,
                "images/s": f"{rate:,.0f}",
                **{_cores_of(row): str(cores_needed(rate, row["images/s"])) for row in rows},
            }
            for name, rate in rates.items()
        ]
        parts += ["## Cores that feed one GPU", markdown_table(needed, text_columns=1)]
    parts.append("\n".join(f"- {note}" for note in _notes(rows, rates, processor)))
    return "\n\n".join(parts) + "\n"


def cores_needed(rate: float, per_core: float) -> int:
    """The fewest whole cores that keep up with a rate."""
    return math.ceil(rate / per_core)


def _cores_of(row: Row) -> str:
    return f"cores for {row['data']}, {row['images']}, from {row['from']}"


def _key(row: Row) -> tuple[str, ...]:
    """What a row is of; a KeyError if it lacks a column."""
    data, images, source, *_ = (str(row[name]) for name in ("data", "images", "from", "kB", "images/s"))
    return data, images, source


def _notes(rows: Sequence[Row], rates: Rates, processor: str) -> list[str]:
    torch, commit = (
        ", ".join(sorted({str(row.get(name) or "unknown") for row in rows})) for name in ("torch", "commit")
    )
    notes = [
        f"{processor}; torch {torch}; commit {commit}.",
        "Reading, decoding and a random crop to 224 pixels, in one process, by its own time; files in memory.",
    ]
    if not rates:
        notes.append(
            "No GPU's rate on photographs is measured in these results; --feed IMAGES_PER_SECOND takes one."
        )
    return notes
