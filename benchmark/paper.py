"""Published numbers checked against the paper's own PDF: ``python -m benchmark verify-paper``.

A number is looked for beside the label of its row, in whichever column. PDF text has no tables: a row is the text
from a label to the next one, wherever lines break.
"""

import csv
import http.client
import io
import logging
import re
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pypdf import PdfReader
from pypdf.errors import DependencyError, PyPdfError

from benchmark.errors import UserError
from benchmark.ledger import write_atomically

URL = "https://proceedings.mlr.press/v95/li18f/li18f.pdf"
TIMEOUT_SECONDS = 60
ROW_CHARACTERS = 160
"""The longest text after a label that is still taken for its row."""

VERIFIED, DIFFERENT, NOT_FOUND = "verified", "different", "not found"
HYPHENS = "[-\u2010\u2011\u2012\u2013\u2212]"
NUMBER = re.compile(r"(?<![\d.])\d{1,2}\.\d{1,2}(?![\d.]*\d)")


@dataclass(frozen=True)
class Finding:
    """What the paper says of one published number; ``page`` counts from 1, ``row`` stands beside the label."""

    model: str
    dataset: str
    metric: str
    value: str
    outcome: str
    page: int | None
    row: tuple[str, ...]


def read_pages(pdf: Path | None) -> list[str]:
    """The text of each page, of a file or of the paper at its public address.

    Raises:
        UserError: no network, no such file, or not a PDF.
    """
    if pdf is None:
        try:
            with urllib.request.urlopen(URL, timeout=TIMEOUT_SECONDS) as answer:
                source = io.BytesIO(answer.read())
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise UserError(f"cannot fetch {URL} ({reason}); save it and pass it with --pdf FILE") from error
    else:
        source = pdf
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # what it would say is in its errors
    try:
        return [page.extract_text() for page in PdfReader(source).pages]
    except (OSError, PyPdfError, DependencyError, ValueError, NotImplementedError) as error:
        raise UserError(f"{pdf or URL} cannot be read as a PDF: {error}") from error


def verify(numbers: Iterable[Mapping[str, str]], pages: list[str]) -> list[Finding]:
    """Look for each published number beside its label.

    Args:
        numbers: lines of ``results/paper/*.csv``: model, dataset, metric, value.
        pages: the paper's text.
    """
    numbers = list(numbers)
    rows = find_rows(dict.fromkeys(line["model"] for line in numbers), pages)
    return [_finding(line, rows.get(line["model"], [])) for line in numbers]


def find_rows(labels: Iterable[str], pages: list[str]) -> dict[str, list[tuple[int, tuple[str, ...]]]]:
    """By label, the page and the numbers of each row that begins with it."""
    patterns = {label: _pattern(label) for label in labels}
    rows: dict[str, list[tuple[int, tuple[str, ...]]]] = {}
    for page, text in enumerate(pages, 1):
        found = sorted((m.start(), m.end(), label) for label, p in patterns.items() for m in p.finditer(text))
        following_starts = [start for start, _, _ in found[1:]] + [len(text)] * bool(found)
        for (_, end, label), following in zip(found, following_starts, strict=True):
            row = tuple(NUMBER.findall(text[end : min(following, end + ROW_CHARACTERS)]))
            if row:
                rows.setdefault(label, []).append((page, row))
    return rows


def read_numbers(path: Path) -> list[dict[str, str]]:
    """Lines of a table of published numbers.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    if not lines or not {"model", "dataset", "metric", "value", "provenance"} <= lines[0].keys():
        raise UserError(f"{path} is not a table of published numbers")
    return lines


def write_provenance(path: Path, findings: Iterable[Finding], source: str) -> int:
    """Mark the numbers of ``path`` that were found; what was verified elsewhere stays. Returns how many changed."""
    lines, changed = read_numbers(path), 0
    for line, finding in zip(lines, findings, strict=True):
        if finding.outcome == VERIFIED and not line["provenance"].startswith(VERIFIED):
            line["provenance"] = f"verified: {source}, page {finding.page}"
            changed += 1
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    write_atomically(path, text.getvalue())
    return changed


def _pattern(label: str) -> re.Pattern[str]:
    """The label with any spacing, any hyphen, and with or without parentheses and commas."""
    loose = {"(": r"\(?", ")": r"\)?", ",": ",?", "-": HYPHENS}
    return re.compile(r"\s*".join(loose.get(c, re.escape(c)) for c in label if not c.isspace()) + r"(?!\w)", re.I)


def _finding(line: Mapping[str, str], rows: list[tuple[int, tuple[str, ...]]]) -> Finding:
    value = float(line["value"])
    common = (line["model"], line["dataset"], line["metric"], line["value"])
    for page, row in rows:
        if any(float(number) == value for number in row):
            return Finding(*common, VERIFIED, page, row)
    if rows:
        return Finding(*common, DIFFERENT, *rows[0])
    return Finding(*common, NOT_FOUND, None, ())
