"""The same table as csv, LaTeX and HTML."""

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from benchmark.experiments.cifar import EXPERIMENT
from benchmark.report.tables import write_tables

from .conftest import PAPER


def test_csv_is_numeric(results, add_run):
    for seed, error in enumerate([5.0, 5.5]):
        add_run("cifar_resnet56", error, seed=seed)
        add_run("cifar_hbnet56", error - 0.1 * seed, seed=seed)
    write_tables(EXPERIMENT, results, PAPER)
    frame = pd.read_csv(results / "tables" / "cifar.csv").set_index("row")
    ours = frame.loc["cifar_hbnet56"]
    assert (ours["C10+ error mean"], ours["C10+ n"], ours["C10+ published"]) == (5.2, 2, 5.46)
    assert ours["C10+ gap"] == -0.26
    assert ours["C10+ error std"] == pytest.approx(0.2828, abs=1e-4)
    assert ours["C10+ published provenance"] == "unverified"
    assert (ours["C10+ difference"], ours["C10+ difference n"]) == (-0.05, 2)
    assert ours["C10+ difference low"] < -0.05 < ours["C10+ difference high"]
    assert (ours["parameters"], ours["multiply_adds"], ours["seconds_per_epoch"]) == (272_474, 40_813_184, 2.0)
    assert (ours["profile"], ours["data"]) == ("paper", "CIFAR-10")
    numeric = [name for name in frame.columns if re.search("error|difference|low| n$|published$", name)]
    assert all(pd.api.types.is_numeric_dtype(frame[name]) for name in numeric)


def awkward_results(results, add_run) -> Path:
    """Every special character that LaTeX and HTML know."""
    add_run("cifar_hbnet56", 5.0)
    add_run("cifar_resnet56", 5.5)
    add_run(r"odd_net & <b>#1</b> 50% $x^2$ {~} \end [a] * ± †", 6.0)
    add_run("cifar_resnet56", status="failed", seed=1, reason=r"100% of {a_b} & C:\new #1 ~ ^ $ 中")
    return next(path for path in write_tables(EXPERIMENT, results, PAPER) if path.suffix == ".tex")


def test_latex_has_no_unescaped_character(results, add_run):
    body = awkward_results(results, add_run).read_text()
    assert body.isascii()
    body = body.removeprefix("% needs ")
    assert not re.search(r"(?<!\\)[%#_^~]", body)
    for line in body.splitlines():
        assert "&" not in re.sub(r"\\&", "", line) or line.endswith(r"\\")
    assert len(re.findall(r"(?<!\\)\{", body)) == len(re.findall(r"(?<!\\)\}", body))
    columns = {len(re.findall(r"(?<!\\)&", line)) for line in body.splitlines() if " & " in line and "(1" in line}
    assert len(columns) == 1


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_compiles(results, add_run, tmp_path):
    table = awkward_results(results, add_run)
    document = (
        rf"\documentclass{{article}}\usepackage{{booktabs}}\begin{{document}}\input{{{table}}}\end{{document}}"
    )
    (tmp_path / "page.tex").write_text(document)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=60)


class Reader(HTMLParser):
    """Collects text and checks that every element is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_html_is_well_formed_and_escaped(results, add_run):
    path = awkward_results(results, add_run).with_suffix(".html")
    reader = Reader()
    reader.feed(path.read_text())
    assert not reader.open
    assert len(set(reader.ids)) == len(reader.ids)
    assert r"odd_net & <b>#1</b> 50% $x^2$ {~} \end [a] * ± †" in reader.text
    assert "5.46†" in reader.text
