"""The command line as a user meets it: help, mistakes (one line, exit 2), and real runs on real digits."""

import gc
import json
import os
import re
import subprocess
import sys

import pytest

from tests.benchmark.commands import ROOT, SMOKE, assert_mistake

HELP_WITHOUT_HEAVY_IMPORTS = """
import sys
sys.argv = ["benchmark", "--help"]
from benchmark.__main__ import main
try:
    main()
except SystemExit:
    pass
heavy = {"torch", "pytorch_lightning", "pandas", "matplotlib", "numpy"} & set(sys.modules)
sys.exit(f"imported {heavy}" if heavy else 0)
"""


def test_help_imports_no_torch():
    done = subprocess.run(
        [sys.executable, "-c", HELP_WITHOUT_HEAVY_IMPORTS], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    commands = "plan run tables report compare speed theory verify-paper list show completion"
    for name in commands.split():
        assert re.search(rf"[{{,]{name}[,}}]", done.stdout)


def test_a_method_given_by_its_step_table_is_trained(run_in_process, tmp_path):
    path = tmp_path / "h.csv"
    path.write_text("1,\n0.25,1.25\n")
    network = f"cifar_resnet20:depth=14,method=step_table,table={path}"
    words = ["run", "quickstart", *SMOKE, "--results-dir", tmp_path / "r", "--seeds", "0", "--network", network]
    done = run_in_process(*words)
    assert done.returncode == 0, done.stderr
    (record,) = (json.loads(p.read_text()) for p in tmp_path.glob("r/runs/quickstart/*/result.json"))
    assert record["spec"]["network"]["options"]["table"] == [[1.0], [0.25, 1.25]]
    assert record["coefficients"]["stages.0.rule.table.1"]["start"] == [0.25, 1.25]


@pytest.mark.parametrize("words", [["run", "--help"], ["completion", "bash"]], ids=" ".join)
def test_a_reader_that_has_seen_enough_is_no_error(words):
    """As with ``| head``: the pipe is closed before anything is written."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "benchmark", *words], cwd=ROOT, stdout=closed, stderr=subprocess.PIPE, text=True
        )
    assert (done.returncode, done.stderr) == (1, "")


@pytest.fixture
def two_results(run_in_process, tmp_path, monkeypatch):
    """Two short runs of the quickstart on both sides, each made in two epochs; the second lacks a row."""
    from dataclasses import replace

    from benchmark.experiments import EXPERIMENTS, quickstart

    short = replace(quickstart.EXPERIMENT.profiles["short"], epochs=2)
    profiles = {**quickstart.EXPERIMENT.profiles, "short": short}
    monkeypatch.setitem(EXPERIMENTS, "quickstart", replace(quickstart.EXPERIMENT, profiles=profiles))
    words = ["run", "quickstart", "--profile", "short", "--device", "cpu", "--seeds", "0"]
    for name, rows in (("a", ["resnet14", "densenet10"]), ("b", ["resnet14"])):
        done = run_in_process(*words, "--results-dir", tmp_path / name, "--only", *rows)
        assert done.returncode == 0, done.stderr
    return tmp_path / "a", tmp_path / "b"


def test_compare_and_sorted_tables(run_in_process, two_results):
    """The same command twice gives the same runs to the bit; nothing is written but the file asked for."""
    a, b = two_results
    before = {path: path.read_bytes() for folder in (a, b) for path in folder.rglob("*.*") if path.is_file()}
    done = run_in_process("compare", a, b)
    assert done.returncode == 0, done.stderr
    assert f"# quickstart: A = {a}, B = {b}" in done.stdout
    assert "B: same runs (1); only in A (1)." in done.stdout
    assert {
        path: path.read_bytes() for folder in (a, b) for path in folder.rglob("*.*") if path.is_file()
    } == before
    file = a.parent / "new" / "changes.csv"
    done = run_in_process("compare", a, b, "--experiment", "quickstart", "--csv", file)
    assert done.stdout.endswith(f"wrote {file}\n")
    assert [line.split(",")[3] for line in file.read_text().splitlines()] == ["row", "resnet14", "densenet10"]
    assert run_in_process("compare", a, b, "--csv", file).returncode == 0
    record = next(path for path in before if path.name == "result.json")
    assert_mistake(run_in_process("compare", a, b, "--csv", record), f"{record} is not a table of compare --csv")
    os.mkfifo(pipe := a.parent / "pipe")
    assert_mistake(run_in_process("compare", a, b, "--csv", pipe), f"{pipe} is not a file")
    assert record.read_bytes() == before[record]
    assert_mistake(run_in_process("compare", a, b, "--experiment", "cifar"), "no finished runs of cifar in both")
    (b / "runs/quickstart").rename(b / "runs/elsewhere")
    words = ("no finished runs of one experiment in both", f"{a} has quickstart", f"{b} has none")
    assert_mistake(run_in_process("compare", a, b), *words)

    tables = run_in_process("tables", "quickstart", "--results-dir", a)
    by_size = run_in_process("tables", "quickstart", "--results-dir", a, "--sort", "parameters")
    downwards = run_in_process("tables", "quickstart", "--results-dir", a, "--sort", "parameters", "--descending")
    shown = [[line for line in done.stdout.splitlines() if line.startswith("| ")] for done in (by_size, downwards)]
    assert shown[0][1:] == shown[1][:0:-1]
    assert sorted(by_size.stdout.splitlines()) == sorted(tables.stdout.splitlines())
    assert {path: path.read_bytes() for path in before if path.exists()}.items() <= before.items()
    assert_mistake(
        run_in_process("tables", "quickstart", "--results-dir", a, "--sort", "params"),
        "no column 'params' to sort by; valid, the closest first: parameters, ",
    )


def test_completion_is_printed(run_in_process):
    done = run_in_process("completion", "bash")
    assert done.returncode == 0
    assert "cifar_hbnet56" in done.stdout


def test_smoke_run_of_cifar_from_a_tar(run_in_process, tmp_path, image_tar, monkeypatch):
    """Every extra row of depth 20, end to end; the second call finds everything done."""
    monkeypatch.setenv("OIN_CACHE_DIR", str(tmp_path / "cache"))
    words = ["run", "cifar", *SMOKE, "--data-dir", image_tar, "--results-dir", tmp_path / "r", "--seeds", "0"]
    words += ["--only", "*20*", "--dataset", "cifar10+"]
    done = run_in_process(*words)
    assert done.returncode == 0, done.stderr
    records = [json.loads(p.read_text()) for p in (tmp_path / "r/runs/cifar").glob("*/result.json")]
    assert len(records) == 10
    for record in records:
        assert record["status"] == "done"
        assert record["data"]["name"] == "image folder noise"
        assert record["spec"]["recipe"]["epochs"] == record["epochs"] == 2
        assert 0 <= record["test_error"] <= 100
        assert record["images_per_second"] > 0
        assert record["peak_memory_bytes"] > 1e7
    again = run_in_process(*words)
    assert again.returncode == 0
    assert again.stdout.count("done already") == 10
    planned = run_in_process("plan", *words[1:])
    assert planned.returncode == 0
    assert "10 runs on image folder noise, 10 done" in planned.stdout


def test_the_reference_loop_makes_a_run_of_its_own(run_in_process, tmp_path, image_tar, monkeypatch):
    monkeypatch.setenv("OIN_CACHE_DIR", str(tmp_path / "cache"))
    words = ["run", "cifar", *SMOKE, "--data-dir", image_tar, "--results-dir", tmp_path / "r", "--seeds", "0"]
    done = run_in_process(*words, "--dataset", "cifar10+", "--only", "cifar_resnet20*", "--precision", "bf16-mixed")
    assert done.returncode == 0, done.stderr
    results = {
        path.parent.name: json.loads(path.read_text()) for path in tmp_path.glob("r/runs/cifar/*/result.json")
    }
    ours, theirs = (next(r for i, r in results.items() if ("reference" in i) is has) for has in (False, True))
    assert (ours["precision"], theirs["precision"]) == ("bf16-mixed", "32-true")
    assert theirs["spec"]["recipe"]["loop"] == "reference"
    assert theirs["parameters"] == ours["parameters"]
    assert theirs["epochs"] == ours["epochs"] == 2


def test_a_run_that_lacks_only_its_record_is_tested_again_not_trained(run_in_process, tmp_path, monkeypatch):
    from lightning_modules.classifier import LitClassifier

    words = ["run", "quickstart", *SMOKE, "--results-dir", tmp_path, "--seeds", "0", "--only", "resnet14"]
    assert run_in_process(*words).returncode == 0
    (path,) = tmp_path.glob("runs/*/*/result.json")
    before = json.loads(path.read_text())
    path.unlink()
    monkeypatch.setattr(LitClassifier, "training_step", lambda *_: pytest.fail("trained again"))
    assert run_in_process(*words).returncode == 0
    after = json.loads(path.read_text())
    assert after["peak_memory_bytes"] is None, "the peak of training is not known to a process that did none"
    assert {**before, "peak_memory_bytes": None, "sha256": ""} == {**after, "sha256": ""}


def test_a_run_finds_the_memory_of_those_before_it_free(run_in_process, tmp_path, monkeypatch):
    from benchmark import run
    from lightning_modules.classifier import LitClassifier

    alive, create_model = [], run.create_model

    def counted(*arguments):
        alive.append(sum(type(thing) is LitClassifier for thing in gc.get_objects()))
        return create_model(*arguments)

    monkeypatch.setattr(run, "create_model", counted)
    networks = [f"feedforward:depth={depth}" for depth in (1, 2, 3)]
    words = ["run", "quickstart", *SMOKE, "--results-dir", tmp_path, "--seeds", "0", "--network", *networks]
    gc.disable()
    try:
        assert run_in_process(*words).returncode == 0
    finally:
        gc.enable()
    assert alive == [0, 0, 0]


def test_a_changed_definition_of_a_network_is_another_run(run_in_process, tmp_path, monkeypatch):
    from lightning_modules.networks import registry

    words = ["run", "quickstart", *SMOKE, "--results-dir", tmp_path, "--seeds", "0", "--only", "resnet14"]
    assert run_in_process(*words).returncode == 0
    (first,) = tmp_path.glob("runs/*/*/result.json")
    before = first.read_bytes()
    monkeypatch.setitem(registry._DEFINITIONS, "resnet", 2)
    assert run_in_process(*words).returncode == 0
    first_again, second = sorted(tmp_path.glob("runs/*/*/result.json"), key=lambda path: path != first)
    assert first_again.read_bytes() == before
    assert json.loads(second.read_text())["spec"]["network"]["definition"] == 2


def test_a_validation_split_is_a_run_of_its_own(run_in_process, tmp_path):
    words = ["run", "quickstart", *SMOKE, "--results-dir", tmp_path, "--seeds", "0", "--only", "resnet14"]
    assert run_in_process(*words).returncode == 0
    assert run_in_process(*words, "--validation", "297").returncode == 0
    records = [json.loads(p.read_text()) for p in tmp_path.glob("runs/*/*/result.json")]
    assert sorted(r["spec"]["data"]["validation"] for r in records) == [0, 297]


def test_smoke_is_never_tabulated(run_in_process, tmp_path):
    words = ["quickstart", *SMOKE, "--results-dir", tmp_path, "--seeds", "0", "--only", "resnet14"]
    assert run_in_process("run", *words).returncode == 0
    assert not (tmp_path / "tables").exists()
    assert_mistake(run_in_process("tables", "quickstart", "--results-dir", tmp_path), "quickstart")


@pytest.mark.parametrize("words", [["list"], ["tables", "--help"]], ids=" ".join)
def test_a_full_disk_below_the_output_is_told_in_one_line(words):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "benchmark", *words], cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert (done.returncode, done.stderr) == (2, "error: No space left on device\n")


def test_a_terminal_that_lacks_a_sign():
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    words = [sys.executable, "-m", "benchmark", "list"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr


def test_without_any_stream():
    words = ["sh", "-c", f"{sys.executable} -m benchmark list <&- >&-"]
    done = subprocess.run(words, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("words", [["tables", "cifar"], ["report"], ["plan", "quickstart"]], ids=" ".join)
def test_a_name_that_is_too_long_for_a_path(run_in_process, words):
    assert_mistake(run_in_process(*words, "--results-dir", "x" * 300), "File name too long")


def test_every_glob_matches(run_in_process, tmp_path):
    words = ["plan", "quickstart", "--results-dir", tmp_path, "--only", "resnet14", "hbnet41"]
    assert_mistake(run_in_process(*words), "no row of quickstart matches hbnet41; did you mean hbnet14")
