"""The documentation's tables of results are the generated ones, with fewer columns."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MEASURED = re.compile(r"\d \(\d+\)")


def rows(path: Path) -> Iterator[dict[str, str]]:
    """Each line of the page's tables, by column."""
    header: list[str] = []
    for line in path.read_text().splitlines():
        if not line.startswith("|"):
            header = []
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if header:
            yield dict(zip(header, cells, strict=True))
        else:
            header = cells


@pytest.mark.parametrize("page", ["README.md", "docs/evidence.md"])
def test_every_table_line_with_a_measured_number_is_in_the_generated_table(page):
    generated = list(rows(ROOT / "results/tables/cifar.md"))
    shown = [row for row in rows(ROOT / page) if MEASURED.search(" ".join(row.values()))]
    assert shown
    for row in shown:
        assert any(row.items() <= known.items() for known in generated), row
