"""The documentation's tables of results are the generated ones, with fewer columns."""

import re
from pathlib import Path

import pytest

from benchmark.experiments.cifar import EXPERIMENT
from benchmark.ledger import read_records
from benchmark.report.coefficient_plots import layer_coefficients
from benchmark.report.layout import signed

ROOT = Path(__file__).parents[2]
SHORT, QUICK, HELD_OUT = (
    f"## {profile} profile, CIFAR-10 (JPEG copy){rest}"
    for profile, rest in (("short", ""), ("quick", ""), ("quick", ", 5000 held out"))
)
SHOWN = {
    "README.md": [("## What it shows so far", SHORT), ("## What it shows so far", QUICK)],
    "docs/evidence.md": [
        ("## With augmentation, 15 epochs", SHORT),
        ("## Without augmentation, 5 epochs", QUICK),
        ("## Dense networks, 5 epochs", HELD_OUT),
        ("## At the paper's size, L = 40", QUICK),
    ],
}
"""By page, below which heading which generated table's rows stand."""


def tables(path: Path) -> list[tuple[str, list[dict[str, str]]]]:
    """The page's tables of results, each with the heading above it and its lines by column."""
    found, heading, header = [], "", []
    for line in path.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("#"):
            heading = line
        if not line.startswith("| "):
            header = header if line.startswith("|:") else []
        elif header:
            found[-1][1].append(dict(zip(header, cells, strict=True)))
        else:
            header = cells
            found.append((heading, []))
    return [(heading, rows) for heading, rows in found if any(re.search(r"\d \(\d+\)", str(row)) for row in rows)]


@pytest.mark.parametrize("page", SHOWN)
def test_every_table_is_a_part_of_the_generated_one_that_its_heading_names(page):
    generated, shown = dict(tables(ROOT / "results/tables/cifar.md")), tables(ROOT / page)
    assert [heading for heading, _ in shown] == [heading for heading, _ in SHOWN[page]]
    for (_, rows), (_, section) in zip(shown, SHOWN[page], strict=True):
        for row in rows:
            assert any(row.items() <= known.items() for known in generated[section]), row


def learned_coefficients() -> set[tuple[str, ...]]:
    """Model, epochs, runs, and the range of the coefficients of stage 1, stage 2, stage 3 and the last block."""
    labels = {row.key: row.label for row in EXPERIMENT.rows}
    found = {}
    for record in read_records(ROOT / "results", EXPERIMENT.name):
        found.setdefault((labels[record.cell.row], record.cell.recipe.epochs), []).append(record)
    rows = set()
    for (label, epochs), records in found.items():
        stages = [ends for name, (_, ends) in layer_coefficients(records).items() if name.endswith("rule.beta")]
        if len(stages) == 3:
            parts = [*stages[:2], stages[2][:, :-1], stages[2][:, -1:]]
            ranges = [f"{signed(part.min())} to {signed(part.max())}" for part in parts]
            rows.add((label, str(epochs), str(len(stages[0])), *ranges))
    return rows


def test_the_table_of_learned_coefficients_has_the_records_ranges():
    text = (ROOT / "docs/evidence.md").read_text().split("## What the networks make of their coefficients")[1]
    lines = [line for line in text.split("\n## ")[0].splitlines() if line.startswith("|")][2:]
    shown = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines]
    assert len(set(shown)) == len(shown) > 0
    assert set(shown) == learned_coefficients()
