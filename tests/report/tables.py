"""Tables of the CIFAR experiment, as a reader finds their lines."""

from pathlib import Path

from benchmark.experiments.cifar import EXPERIMENT
from benchmark.report.tables import console_text, write_tables

from .conftest import PAPER


def text(results: Path, paper: Path | None = PAPER) -> str:
    return console_text(EXPERIMENT, results, paper)


def tables(results: Path) -> dict[str, bytes]:
    return {path.suffix: path.read_bytes() for path in write_tables(EXPERIMENT, results, PAPER)}


def line_of(document: str, label: str) -> list[str]:
    """The cells of the first table line whose label this is."""
    lines = ([cell.strip() for cell in line.strip("|").split("|")] for line in document.splitlines())
    return next(cells for cells in lines if cells[0] == label)
