"""The documentation's tables of results are the generated ones, with fewer columns."""

import re
from pathlib import Path

import pytest

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
