"""The documentation's tables of results are the generated ones."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("page", ["README.md", "docs/evidence.md"])
def test_every_table_line_with_a_measured_number_is_in_the_generated_table(page):
    generated = (ROOT / "results/tables/cifar.md").read_text().splitlines()
    shown = [
        line
        for line in (ROOT / page).read_text().splitlines()
        if line.startswith("|") and re.search(r"\d \(\d+\)", line)
    ]
    assert shown
    assert set(shown) <= set(generated)
