"""The README's numbers are those of the generated table."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_table_line_with_a_measured_number_is_in_the_generated_table():
    generated = (ROOT / "results/tables/cifar.md").read_text().splitlines()
    shown = [
        line
        for line in (ROOT / "README.md").read_text().splitlines()
        if line.startswith("|") and re.search(r"\d \(\d+\)", line)
    ]
    assert shown
    assert set(shown) <= set(generated)
