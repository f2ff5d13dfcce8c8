"""The command line as a user meets it: help, mistakes (one line, exit 2), and real runs on real digits."""

import gc
import json
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def command(*words, **environment):
    """The real command in a process of its own, without a terminal."""
    return subprocess.run(
        [sys.executable, "-m", "benchmark", *map(str, words)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        timeout=240,
    )


def assert_mistake(done, *parts):
    """Exit 2 and one line of error that contains the parts; a note on decoding may stand before it."""
    assert done.returncode == 2, done.stderr
    *before, error = done.stderr.strip().splitlines()
    assert all(line.startswith("decoding ") for line in before), done.stderr
    assert error.startswith("error: ")
    for part in parts:
        assert part in error


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


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["run", "cifra"], ["unknown experiment 'cifra'; did you mean cifar?"]),
        (["run", "cifar", "--seeds", "0", "1.5"], ["seed '1.5' is not an integer"]),
        (["run", "cifar", "--seeds=-1"], ["seed '-1' is not an integer"]),
        (["run", "cifar", "--sedes", "0"], ["--sedes", "--seeds"]),
        (["walk", "cifar"], ["walk"]),
        (["compare", "results"], ["B"]),
        (
            ["compare", "results", "results", "--experiment", "cifra"],
            ["unknown experiment 'cifra'; did you mean cifar?"],
        ),
        (["compare", "resluts", "results"], ["'resluts' is n"]),
        (["tables", "cifar", "--descending"], ["--descending needs --sort COLUMN"]),
        (["tables", "hypothesis-digits", "--sort", "n"], ["--sort", "hypothesis-digits"]),
        (["completion", "fish"], ["fish", "bash", "zsh"]),
    ],
    ids=lambda v: "",
)
def test_mistakes_found_before_torch_is_imported(words, parts):
    assert_mistake(command(*words), *parts)


@pytest.fixture
def run_in_process(monkeypatch, capsys, tmp_path):
    """The same entry point without a new process: fast enough for many mistakes."""
    import benchmark.__main__ as cli

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["benchmark", *map(str, words)])
        monkeypatch.setattr(sys, "stdin", open(os.devnull))  # noqa: SIM115
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out, err = capsys.readouterr()
        return subprocess.CompletedProcess(words, stop.value.code or 0, out, err)

    return run


SMOKE = ["--profile", "smoke", "--device", "cpu"]


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--profile", "paper"], ["quickstart has no profile 'paper'; valid: short, smoke"]),
        (["--dataset", "cifar10"], ["quickstart has no data set 'cifar10'", "digits"]),
        (["--only", "*resnet99*"], ["no row of quickstart matches *resnet99*", "resnet14"]),
        (["--network", "cifar_hbnett20"], ["unknown network 'cifar_hbnett20'; did you mean cifar_hbnet20"]),
        (["--network", "cifar_resnet20:depth=21"], ["depth 21 is not 6n + 2; the nearest are 20 and 26"]),
        (["--network", "cifar_resnet20:depth=deep"], ["cifar_resnet20:"]),
        (["--network", "cifar_densenet40:growth=-1"], ["cifar_densenet40:"]),
        (["--network", "cifar_resnet20:depth"], ["'depth' of cifar_resnet20 is not name=value"]),
        (["--network", "cifar_hbnet20:reading=none"], ["unknown reading 'none'; valid: residual, fixed_point"]),
        (["--validation", "1297"], ["cannot hold out 1297 of 1297 training images"]),
        (["--validation", "many"], ["many"]),
        (["--device", "tpu"], ["unknown device 'tpu'; valid: auto, cpu, cuda"]),
        (["--precision", "fp8"], ["unknown precision 'fp8'; valid: auto, 32-true, bf16-mixed"]),
    ],
    ids=str,
)
def test_mistakes(run_in_process, tmp_path, words, parts):
    assert_mistake(run_in_process("run", "quickstart", *SMOKE, "--results-dir", tmp_path, *words), *parts)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (None, "h.csv cannot be read: No such file or directory"),
        ("1\na,1\n", "h.csv, row 2: could not convert string to float: 'a'"),
        ("1\n", "cifar_resnet20: the step table has 1 rows for 2 steps"),
        ("1,1\n1,1\n", "cifar_resnet20: the step table is not lower triangular: row 0 has 1.0 in column 1"),
        ("1\n0,inf\n", "cifar_resnet20: entry inf in row 1, column 1 of the step table is not finite"),
    ],
    ids=str,
)
def test_bad_step_tables(run_in_process, tmp_path, text, part):
    path = tmp_path / "h.csv"
    if text is not None:
        path.write_text(text)
    network = f"cifar_resnet20:depth=14,method=step_table,table={path}"
    words = ["run", "quickstart", *SMOKE, "--results-dir", tmp_path / "results", "--network", network]
    assert_mistake(run_in_process(*words), part)


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


def test_results_directory_that_is_a_file(run_in_process, tmp_path):
    path = tmp_path / "file"
    path.write_text("x")
    assert_mistake(
        run_in_process("run", "quickstart", *SMOKE, "--results-dir", path), "cannot be written", str(path)
    )


def test_absent_gpu(run_in_process, monkeypatch, tmp_path):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert_mistake(
        run_in_process("run", "quickstart", "--device", "cuda", "--results-dir", tmp_path),
        "'cuda' is not available",
    )


def test_tables_without_records(run_in_process, tmp_path):
    assert_mistake(run_in_process("tables", "cifar", "--results-dir", tmp_path), "cifar")


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


def test_a_day_of_work_is_refused_without_a_terminal(run_in_process, tmp_path, image_tar, monkeypatch):
    """The paper profile on a CPU, with a day of a second; nothing is trained."""
    from benchmark import start

    assert start.DAY == 24 * 60 * 60
    monkeypatch.setattr(start, "DAY", 1)
    monkeypatch.setenv("OIN_CACHE_DIR", str(tmp_path / "cache"))
    words = ["run", "cifar", "--data-dir", image_tar, "--results-dir", tmp_path, "--only", "cifar_resnet110"]
    stopped = run_in_process(*words, "--device", "cpu", "--seeds", *range(20))
    assert_mistake(stopped, "this will take about", "--yes", "PROFILE=short")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("answer", "goes_on"), [("y", True), ("YES", True), ("n", False), ("", False)])
def test_a_day_of_work_is_asked_for_on_a_terminal(monkeypatch, answer, goes_on):
    from benchmark import start
    from benchmark.errors import UserError

    asked = []
    monkeypatch.setattr("sys.stdin", type("Terminal", (), {"isatty": lambda self: True})())
    monkeypatch.setattr("builtins.input", lambda question: asked.append(question) or answer)
    if goes_on:
        start._confirm(100_000, yes=False)
    else:
        with pytest.raises(UserError, match="not started; PROFILE=short"):
            start._confirm(100_000, yes=False)
    assert "27.8 h" in asked[0]
    start._confirm(80_000, yes=False)
    start._confirm(1e9, yes=True)
    assert len(asked) == 1


@pytest.fixture(scope="module")
def image_tar(tmp_path_factory):
    """Ten classes of 32 x 32 noise in CIFAR-10's layout, as PNG: 70 training and 20 test images."""
    import io

    import numpy as np
    from PIL import Image

    path = tmp_path_factory.mktemp("images") / "noise.tar"
    generator = np.random.default_rng(0)
    with tarfile.open(path, "w") as archive:
        for split, count in (("train", 7), ("test", 2)):
            for label in range(10):
                for i in range(count):
                    buffer = io.BytesIO()
                    Image.fromarray(generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(buffer, "PNG")
                    info = tarfile.TarInfo(f"{split}/class{label}/{i:04d}.png")
                    info.size = buffer.tell()
                    buffer.seek(0)
                    archive.addfile(info, buffer)
    return path


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
        assert record["data"]["name"] == "CIFAR-10 (PNG copy)"
        assert record["spec"]["recipe"]["epochs"] == record["epochs"] == 2
        assert 0 <= record["test_error"] <= 100
        assert record["images_per_second"] > 0
        assert record["peak_memory_bytes"] > 1e7
    again = run_in_process(*words)
    assert again.returncode == 0
    assert again.stdout.count("done already") == 10
    planned = run_in_process("plan", *words[1:])
    assert planned.returncode == 0
    assert "10 runs on CIFAR-10 (PNG copy), 10 done" in planned.stdout


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
    assert {**after, "peak_memory_bytes": 0, "sha256": ""} == {**before, "peak_memory_bytes": 0, "sha256": ""}


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


def test_a_batch_larger_than_the_data(run_in_process, tmp_path, image_tar, monkeypatch):
    monkeypatch.setenv("OIN_CACHE_DIR", str(tmp_path / "cache"))
    words = ["run", "cifar", "--profile", "short", "--device", "cpu", "--data-dir", image_tar, "--only", "*plain20"]
    done = run_in_process(*words, "--results-dir", tmp_path)
    assert_mistake(done, "batch size 128 is larger than the 70 training images")


def test_cifar100_is_refused_where_the_folder_holds_cifar10(run_in_process, tmp_path, image_tar):
    words = ["run", "cifar", *SMOKE, "--data-dir", image_tar, "--results-dir", tmp_path, "--dataset", "cifar100"]
    assert_mistake(run_in_process(*words), "noise.tar", "cifar100")


@pytest.mark.parametrize(("word", "value"), [("true", True), ("False", False), ("none", "none"), ("2", 2)])
def test_option_values(word, value):
    from benchmark.arguments import parse_network

    assert parse_network(f"cifar_resnet20:x={word}").network.options == {"x": value}
