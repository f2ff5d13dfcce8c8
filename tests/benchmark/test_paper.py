"""Published numbers are found in a PDF that is set like the paper's tables."""

import shutil
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from matplotlib import rc_context
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure

import benchmark.__main__ as cli
from benchmark import paper

PUBLISHED = Path(__file__).parents[2] / "results" / "paper"
TABLES = [
    [
        "Table 2: Error rates (%) on CIFAR-10 and CIFAR-100 datasets and their augmented versions.",
        "Model                      C10     C10+    C100    C100+",
        "ResNet (n = 9)             10.05   5.32    39.65   26.03",
        "HB-Net (n = 9)             10.17   5.46    38.52   26.00",
        "ResNet (n = 18)            9.17    5.06    38.13   24.71",
        "HB\u2013Net (n = 18)       8.66    5.05    36.40   23.93",
        "DenseNet (k = 12, L = 40)  7.00    5.24    27.55   24.42",
        "AGD-Net (k=12, L=40)       6.44    5.20    26.33   24.87",
    ],
    [
        "Table 3: Error rates on ImageNet.",
        "ResNet-34     26.73  8.74",
        "HB-Net-34     26.33  8.56",
    ],
]


@pytest.fixture(scope="module")
def pdf(tmp_path_factory):
    path = tmp_path_factory.mktemp("pdf") / "li18f.pdf"
    with rc_context({"pdf.fonttype": 42}), PdfPages(path) as pages:
        for lines in TABLES:
            figure = Figure(figsize=(8, 6))
            for i, line in enumerate(lines):
                for x, cell in enumerate(part for part in line.split("   ") if part.strip()):
                    figure.text(0.05 + 0.18 * x, 0.9 - 0.05 * i, cell.strip())
            pages.savefig(figure)
    return path


@pytest.fixture
def tables(tmp_path, monkeypatch):
    """A copy of the published numbers, to write into."""
    monkeypatch.setattr(cli, "PAPER", tmp_path / "paper")
    return Path(shutil.copytree(PUBLISHED, tmp_path / "paper"))


def run(monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["benchmark", "verify-paper", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return stop.value.code, *capsys.readouterr()


def outcomes(pages, table="cifar.csv"):
    numbers = paper.read_numbers(PUBLISHED / table)
    return {(f.model, f.value): (f.outcome, f.page) for f in paper.verify(numbers, pages)}


def test_numbers_are_found_beside_their_labels(pdf):
    found = outcomes(paper.read_pages(pdf))
    assert found["ResNet (n=9)", "10.05"] == ("verified", 1)
    assert found["HB-Net (n=18)", "23.93"] == ("verified", 1)
    assert found["AGD-Net (k=12, L=40)", "6.44"] == ("verified", 1)
    assert outcomes(paper.read_pages(pdf), "imagenet.csv")["HB-Net-34", "26.33"] == ("verified", 2)


def test_a_different_number_and_a_missing_row_are_told_apart(pdf):
    found = outcomes(paper.read_pages(pdf))
    assert found["HB-Net (n=18)", "5.04"] == ("different", 1)
    assert found["AGD-Net (k=12, L=52)", "5.75"] == ("not found", None)


def test_a_number_of_another_row_does_not_count():
    pages = ["ResNet (n=9) 10.05 5.32\nHB-Net (n=9) 10.17 5.46 and in the text 1.23.45 or 110.05"]
    rows = paper.find_rows(["ResNet (n=9)", "HB-Net (n=9)"], pages)
    assert rows == {"ResNet (n=9)": [(1, ("10.05", "5.32"))], "HB-Net (n=9)": [(1, ("10.17", "5.46"))]}


def test_a_label_is_not_the_beginning_of_another():
    assert paper.find_rows(["ResNet-34"], ["ResNet-341 20.00\nResNet-34 26.73"]) == {"ResNet-34": [(1, ("26.73",))]}


def test_provenance_is_written_for_what_was_verified_alone(pdf, tables, monkeypatch, capsys):
    before = paper.read_numbers(tables / "cifar.csv")
    code, out, _ = run(monkeypatch, capsys, "--pdf", pdf, "--write")
    assert code == 1
    assert "different  HB-Net (n=18), CIFAR-10, error: 5.04  (page 1: 8.66 5.05 36.40 23.93)" in out
    after = paper.read_numbers(tables / "cifar.csv")
    for old, new in zip(before, after, strict=True):
        assert {k: v for k, v in old.items() if k != "provenance"} == {
            k: v for k, v in new.items() if k != "provenance"
        }
    provenance = {(line["model"], line["value"]): line["provenance"] for line in after}
    assert provenance["ResNet (n=9)", "10.05"] == "verified: li18f.pdf, page 1"
    assert provenance["HB-Net (n=18)", "5.04"] == "unverified"
    assert provenance["DenseNet (k=12, L=40)", "7.00"] == "verified: DenseNet authors' README"


def test_without_network(monkeypatch, capsys):
    def refuse(*args, **options):
        raise urllib.error.URLError("no network here")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    code, _, err = run(monkeypatch, capsys)
    assert code == 2
    assert err == f"error: cannot fetch {paper.URL} (no network here); save it and pass it with --pdf FILE\n"


@pytest.mark.parametrize("content", [None, b"", b"no pdf at all"], ids=str)
def test_what_is_not_a_pdf(content, tmp_path, monkeypatch, capsys):
    path = tmp_path / "paper.pdf"
    if content is not None:
        path.write_bytes(content)
    code, _, err = run(monkeypatch, capsys, "--pdf", path)
    assert code == 2
    assert err.startswith(f"error: {path} cannot be read as a PDF")
    assert len(err.splitlines()) == 1


def test_a_pdf_with_a_filter_that_is_none(pdf, tmp_path, monkeypatch, capsys):
    """What pypdf has no code for it calls not implemented."""
    damaged = tmp_path / "paper.pdf"
    damaged.write_bytes(pdf.read_bytes().replace(b"/FlateDecode", b"/FlateDecodf"))
    code, _, err = run(monkeypatch, capsys, "--pdf", damaged)
    assert code == 2
    assert err.startswith(f"error: {damaged} cannot be read as a PDF: Unsupported filter")
    assert len(err.splitlines()) == 1


def test_no_tables(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cli, "PAPER", tmp_path)
    code, _, err = run(monkeypatch, capsys)
    assert code == 2
    assert "holds no tables of published numbers" in err
