"""The page says what the records say, needs nothing but itself, and works in a browser."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

import pytest

from benchmark.errors import UserError
from benchmark.experiments import EXPERIMENTS
from benchmark.experiments.cifar import EXPERIMENT
from benchmark.experiments.hypothesis import HYPOTHESIS_DIGITS, METHODS
from benchmark.experiments.momentum import MOMENTUM_DIGITS
from benchmark.experiments.quickstart import EXPERIMENT as QUICKSTART
from benchmark.report.page import NAME, read_groups
from benchmark.report.page.runs import details, run_table
from benchmark.reports import report_all

from .conftest import HOSTILE, curve, make_cell, write_some_runs

ROOT = Path(__file__).parents[2]
VOID = {"meta", "link", "br", "img", "polyline"}
LOADED = {"src", "href", "srcset", "action", "data", "poster", "background", "xlink:href"}


class Reader(HTMLParser):
    """Collects the text by element, ids, headings and what elements point to; every element must be closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[tuple[str, str]] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip():
            self.text.append((self.open[-1] if self.open else "", data.strip()))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def words(self, tag: str) -> list[str]:
        return [text for name, text in self.text if name == tag]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Of some runs, made once for those who only read it."""
    results = tmp_path_factory.mktemp("page") / "results"
    results.mkdir()
    write_some_runs(results)
    assert report_all(results) == 0
    return Reader((results / NAME).read_text())


def test_content_follows_from_the_records(page):
    words = [text for _, text in page.text]
    for expected in (
        "CIFAR-10 and CIFAR-100: test error (%)",
        "paper profile, CIFAR-10",
        "11.58 ± 2.97 (3)",
        "+0.25 (1 seed)",
        "Mixes commits 0123456, fedcba9 (with uncommitted changes).",
        "failed: cifar_hbnet20 on C10+, seed 1: OutOfMemoryError: no room",
        "OutOfMemoryError: no room",
        "fedcba9 (with uncommitted changes)",
        "fedcba9876543210 (with uncommitted changes)",
        "torch 2.9.0",
        "sha256 of CIFAR-10 cifar10+",
        "The runs in the tables mix 2 devices, 2 commits.",
        "from 49.50 to 9.50 %",
    ):
        assert any(expected in word for word in words), expected
    assert any(word.startswith("6 runs of 1 experiment: 5 done, 1 failed") for word in words)
    assert len(page.of("details")) == 6
    assert [text for text in page.words("caption") if text.startswith("All runs")]


def test_every_run_leads_to_its_details(page, some_runs):
    ids = [attributes["id"] for _, attributes in page.elements if attributes.get("id")]
    assert len(ids) == len(set(ids))
    targets = [attributes["href"] for attributes in page.of("a")]
    assert {target.removeprefix("#") for target in targets} <= set(ids)
    assert {f"#run-cifar-{path.name}" for path in (some_runs / "runs" / "cifar").iterdir()} <= set(targets)


def test_every_plot_of_the_section_is_there(page):
    titles = [attributes["alt"].split(".")[0] for attributes in page.of("img")]
    assert titles == [f"paper profile, CIFAR-10: {kind}" for kind in ("curves", "differences", "cost")]


def test_the_page_is_accessible(page):
    assert page.of("html")[0]["lang"] == "en"
    assert page.words("title")
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert len(page.of("caption")) == len(page.of("table"))
    assert all(image["alt"] for image in page.of("img"))
    assert all(image["aria-label"] for image in page.of("svg"))


def test_nothing_is_loaded_from_anywhere(page):
    pointers = [value for _, attributes in page.elements for name, value in attributes.items() if name in LOADED]
    assert all(value.startswith(("#", "data:")) for value in pointers)
    style = "".join(page.words("style"))
    assert "url(" not in style
    assert "@import" not in style
    assert len(page.of("script")) == 1


def test_hostile_records_stay_text(results, add_run, report):
    add_run()
    add_run(HOSTILE, 5.0, device=HOSTILE, git={"commit": HOSTILE}, versions={HOSTILE: HOSTILE}, data=HOSTILE)
    add_run(HOSTILE, seed=1, status="failed", reason=HOSTILE)
    code, _, text = report()
    assert code == 0
    page = Reader(text)
    assert len(page.of("script")) == 1
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert all(attributes["src"].startswith("data:") for attributes in page.of("img"))
    assert HOSTILE in page.words("a")
    assert HOSTILE in page.words("dd")


def test_the_same_records_give_the_same_bytes(some_runs, report):
    code, output, text = report()
    assert code == 0
    assert str(some_runs / NAME) in output.out
    assert report()[2] == text


def test_a_held_out_error_has_a_column_where_there_is_one(results, add_run):
    def listed():
        groups = read_groups(EXPERIMENTS.values(), results)
        return run_table(groups), details(groups)[0].runs

    add_run()
    table, _ = listed()
    assert "validation error (%)" not in [heading.name for heading in table.headings]
    cell = make_cell(EXPERIMENT, "cifar_resnet20", "cifar10+", "paper", "CIFAR-10")
    cell = replace(cell, data=replace(cell.data, validation=5000))
    add_run(error=20.0, cell=cell, metrics=curve(21.25))
    add_run(seed=1, cell=cell, status="failed")
    table, runs = listed()
    place = [heading.name for heading in table.headings].index("validation error (%)")
    assert sorted(line.items[place].text for line in table.lines) == ["21.25", "—", "—"]
    facts = [dict(run.facts)["validation error, last epoch (%)"] for run in runs]
    assert sorted(facts) == ["21.25", "—", "—"]


def test_values_of_a_wrong_kind_are_missing(results, add_run, report):
    add_run(images_per_second=None, peak_memory_bytes="much", device=None, versions=None, git=None, seconds=True)
    code, _, text = report()
    assert code == 0
    assert "unknown" in Reader(text).words("td")
    assert 'data-value="None"' not in text


def test_several_experiments_and_one_without_a_table(results, add_run, report):
    add_run()
    for seed in (0, 1):
        add_run("resnet14", seed=seed, dataset="digits", profile="smoke", data="digits", experiment=QUICKSTART)
    add_run("plain14", dataset="digits", profile="short", data="digits", experiment=QUICKSTART, status="diverged")
    code, _, text = report()
    assert code == 0
    words = [text for _, text in Reader(text).text]
    assert "quickstart has no table here: 2 smoke runs, 1 diverged. Its runs are listed below." in words
    assert "experiment" in Reader(text).words("th")


def test_records_of_an_unknown_experiment_are_named(some_runs, report):
    shutil.copytree(some_runs / "runs" / "cifar", some_runs / "runs" / "svhn")
    words = [text for _, text in Reader(report()[2]).text]
    assert any(word.startswith("runs/svhn holds records of an experiment") for word in words)


@pytest.fixture
def hypothesis_runs(add_run):
    for rank, method in enumerate(METHODS):
        for seed in (0, 1):
            cell = make_cell(HYPOTHESIS_DIGITS, f"shared-{method}-5", "digits", "short", "digits")
            add_run(cell.row, 10.0 + rank + seed, seed=seed, experiment=HYPOTHESIS_DIGITS, cell=cell, data="digits")


def test_a_hypothesis_experiment_shows_its_tables_and_figure(results, hypothesis_runs, report):
    page = Reader(report()[2])
    assert "hypothesis-digits-short" in page.words("h3")
    assert "Rank correlation of speed and result" in page.words("h4")
    assert "linearised ADMM" in page.words("td")
    assert [image["alt"].split(".")[0] for image in page.of("img")] == ["hypothesis-digits-short"]
    assert "Hypothesis, from an earlier run" not in page.words("h2")


@pytest.mark.parametrize(("key", "is_shown"), [("shared-5-0", True), ("feedforward:depth=2", False)])
def test_a_momentum_experiment_shows_its_own_rows(results, hypothesis_runs, add_run, report, key, is_shown):
    """A row that was added on the command line has runs, but no table."""
    cell = make_cell(MOMENTUM_DIGITS, key, "digits", "short", "digits")
    add_run(key, 4.0, experiment=MOMENTUM_DIGITS, cell=cell, data="digits")
    page = Reader(report()[2])
    assert ("momentum-digits-short" in page.words("h3")) == is_shown
    assert ("Predicted and best beta" in page.words("h4")) == is_shown
    assert any("1 of added rows" in word for word in page.words("p")) != is_shown


def test_files_without_records_are_shown_as_such(results, add_run, report):
    add_run()
    tables, plots = results / "tables", results / "plots"
    tables.mkdir()
    plots.mkdir()
    (tables / "speed-cpu.md").write_text(
        "# Speed\n\n## Loops\n\n| a | b |\n|:--|--:|\n| <b>x</b> | 1 |\n\n- a *note*\n"
    )
    (tables / "hypothesis-digits-short.md").write_text(
        "# Faster?\n\n[link](http://example.org) ![i](http://x/y.png)\n"
    )
    text = """<text fill="#333">β &lt; 50 % 'a'</text>"""
    drawing = f'<svg xmlns="http://www.w3.org/2000/svg" width="9pt">\n {text}</svg>\n'
    (plots / "theory-step-tables.svg").write_text(drawing)
    (tables / "cifar-old.md").write_text("stale")
    page = Reader(report()[2])
    assert {"Speed", "Theory: steps", "Hypothesis, from an earlier run"} <= set(page.words("h2"))
    kind, _, data = page.of("img")[-1]["src"].partition(",")
    assert (kind, unquote(data).split()) == ("data:image/svg+xml", drawing.split())
    assert "#" not in data  # which would end it
    assert "<b>x</b>" in page.words("td")
    assert "[link](http://example.org) ![i](http://x/y.png)" in page.words("p")
    assert "tables/speed-cpu.md" in page.words("p")
    assert not any("stale" in text for _, text in page.text)


def test_mistakes_are_one_line(tmp_path, results, add_run, report):
    file = tmp_path / "file"
    file.write_text("")
    for folder, part in (
        (tmp_path / "nowhere", "does not exist"),
        (file, "is no results directory"),
        (results, "is no results directory"),
    ):
        code, output, page = report(folder)
        assert (code, page) == (2, None)
        assert re.fullmatch(rf"error: .*{re.escape(str(folder))}.*\n", output.err)
        assert part in output.err
    add_run(profile="smoke")
    code, output, page = report()
    assert (code, page) == (2, None)
    assert "no finished runs under" in output.err
    assert "(cifar: 1 smoke run)" in output.err


def test_a_damaged_record_or_file_is_named(results, add_run, report):
    path = add_run()
    (results / "tables").mkdir()
    table = results / "tables" / "speed-cpu.md"
    table.write_bytes(b"\xff\xfe\x00")
    code, output, _ = report()
    assert code == 2
    assert str(table) in output.err
    table.unlink()
    (path / "result.json").write_text("{}")
    code, output, page = report()
    assert (code, page) == (2, None)
    assert output.err.count("\n") == 1
    assert str(path) in output.err


def test_a_page_that_cannot_be_written(results, add_run, report):
    add_run()
    (results / NAME).mkdir()
    code, output, _ = report()
    assert code == 2
    assert f"cannot write {results / NAME}" in output.err


def test_groups_refuse_what_is_no_directory(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read_groups(EXPERIMENTS.values(), tmp_path / "nowhere")


@pytest.mark.slow
def test_page_of_the_committed_results_is_small(report, tmp_path):
    """Through the module, as make does."""
    folder = tmp_path / "committed"
    shutil.copytree(ROOT / "results", folder, ignore=shutil.ignore_patterns("checkpoints"))
    command = [sys.executable, "-m", "benchmark", "report", "--results-dir", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert 10_000 < (folder / NAME).stat().st_size < 6_000_000
