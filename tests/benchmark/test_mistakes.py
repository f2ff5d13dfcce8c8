"""A user's mistakes: one line that names what would be right, exit 2, and nothing touched."""

import io

import pytest

from benchmark.experiments.quickstart import EXPERIMENT as QUICKSTART
from benchmark.grid import select_cells
from tests.benchmark.commands import SMOKE, assert_mistake, command
from tests.report.conftest import write_run


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["run", "cifra"], ["unknown experiment 'cifra'; did you mean cifar?"]),
        (["run", "cifar", "--seeds", "0", "1.5"], ["seed '1.5' is not an integer"]),
        (["run", "cifar", "--seeds=-1"], ["seed '-1' is not an integer"]),
        (["run", "cifar", "--sedes", "0"], ["--sedes", "--seeds"]),
        (["walk", "cifar"], ["walk"]),
        (["run", "cifar", "--results-dir", ""], ["an argument is empty"]),
        (["run", "cifar", "--results-dir="], ["an argument is empty"]),
        (["show", "a\u2028b"], ["'a\\u2028b' has characters that tables and plots cannot show"]),
        (["show", "a\nb"], ["'a\\nb' has characters that tables and plots cannot show"]),
        (["run", "cifar", "--data-dir", "\udcff"], ["'\\udcff' has characters that tables and plots cannot show"]),
        (["compare", "results"], ["B"]),
        (
            ["compare", "results", "results", "--experiment", "cifra"],
            ["unknown experiment 'cifra'; did you mean cifar?"],
        ),
        (["compare", "resluts", "results"], ["'resluts' is n"]),
        (["tables", "cifar", "--descending"], ["--descending needs --sort COLUMN"]),
        (["tables", "hypothesis-digits", "--sort", "n"], ["--sort", "hypothesis-digits"]),
        (["completion", "fish"], ["fish", "bash", "zsh"]),
        (["verify-paper", "--pdf", "README.md"], ["README.md cannot be read as a PDF"]),
    ],
    ids=lambda v: "",
)
def test_mistakes_found_before_torch_is_imported(words, parts):
    assert_mistake(command(*words), *parts)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--profile", "paper"], ["quickstart has no profile 'paper'; valid: short, smoke"]),
        (["--dataset", "cifar10"], ["quickstart has no data set 'cifar10'", "digits"]),
        (["--only", "*resnet99*"], ["no row of quickstart matches *resnet99*", "resnet14"]),
        (["--network", "cifar_hbnett20"], ["unknown network 'cifar_hbnett20'; did you mean cifar_hbnet20"]),
        (["--network", "cifar_resnet20:steps=3"], ["option steps of cifar_resnet20 follows from the depth"]),
        (["--network", "cifar_resnet20:in_channels=1"], ["option in_channels", "follows from the data"]),
        (["--network", "cifar_resnet20:depth=21"], ["depth 21 is not 6n + 2; the nearest are 20 and 26"]),
        (["--network", "cifar_resnet20:depth=deep"], ["cifar_resnet20:"]),
        (["--network", "cifar_densenet40:growth=-1"], ["cifar_densenet40:"]),
        (
            ["--network", "cifar_densenet40:compression=1e999"],
            ["compression must be a finite float32 number"],
        ),
        (
            ["--network", "cifar_resnet20:widths={}"],
            ["cifar_resnet20: widths must be positive whole numbers, one for each stage, got {}"],
        ),
        (["--network", "cifar_resnet20:widths=b'abc'"], ["cifar_resnet20: widths must be positive whole numbers"]),
        (["--network", f"cifar_resnet20:reading={'a' * 300}"], ["unknown reading"]),
        (["--network", "cifar_resnet20:depth=20,depth=26"], ["option depth of cifar_resnet20 is given twice"]),
        (["--network", "cifar_resnet20:self=3"], ["cifar_resnet20 has no option self"]),
        (["--network", "cifar_resnet20:widths=[8,16,-1]"], ["widths must be positive whole numbers, one for each"]),
        (["--network", "cifar_resnet20:depth"], ["'depth' of cifar_resnet20 is not name=value"]),
        (["--network", "cifar_hbnet20:reading=none"], ["unknown reading 'none'; valid: residual, fixed_point"]),
        (["--validation", "1297"], ["cannot hold out 1297 of 1297 training images"]),
        (["--validation", "many"], ["many"]),
        (["--device", "tpu"], ["unknown device 'tpu'; valid: auto, cpu, cuda"]),
        (["--compile", "max"], ["unknown --compile 'max'; valid: auto, off, default, graphs, compiled-graphs"]),
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
        ("1\n\na,1\n", "h.csv, line 3: 'a' is not a number"),
        ("1\n1_0,1\n", "h.csv, line 2: '1_0' is not a number"),
        ("1\n_1,1\n", "h.csv, line 2: '_1' is not a number"),
        ('1\n"0,5",1\n', "h.csv, line 2: '0,5' is not a number"),
        ("1;0\n0,5;1\n", "h.csv, line 1: '1;0' is not a number"),
        ("1\n0,1e39\n", "cifar_resnet20: entry 1e+39 in row 1, column 1 of the step table is not a finite float32"),
        ("1\n1,1\n1,1,nan\n", "cifar_resnet20: entry nan in row 2, column 2 of the step table is not a finite"),
        ("1\n1,1\n1,1,1\n", "cifar_resnet20: the step table has 3 rows, and no stage has more than 2 layers"),
        ("1\n", "cifar_resnet20: the step table has 1 rows for 2 steps"),
        ("1,1\n1,1\n", "cifar_resnet20: the step table is not lower triangular: row 0 has 1.0 in column 1"),
        ("1\n0,inf\n", "cifar_resnet20: entry inf in row 1, column 1 of the step table is not a finite float32"),
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


def test_the_end_of_the_input_is_a_no(monkeypatch):
    from benchmark import start
    from benchmark.errors import UserError

    terminal = type("Terminal", (io.StringIO,), {"isatty": lambda self: True})
    monkeypatch.setattr("sys.stdin", terminal())
    with pytest.raises(UserError, match="not started; PROFILE=short"):
        start._confirm(100_000, yes=False)


def test_a_batch_larger_than_the_data(run_in_process, tmp_path, image_tar, monkeypatch):
    monkeypatch.setenv("OIN_CACHE_DIR", str(tmp_path / "cache"))
    words = ["run", "cifar", "--profile", "short", "--device", "cpu", "--data-dir", image_tar, "--only", "*plain20"]
    done = run_in_process(*words, "--results-dir", tmp_path)
    assert_mistake(done, "batch size 128 is larger than the 70 training images")


def test_a_run_that_no_table_could_hold_is_not_trained(run_in_process, tmp_path, monkeypatch):
    """Seed 0 is done in another precision."""
    words = ["quickstart", "--device", "cpu", "--only", "plain14", "--seeds", "0", "--results-dir", tmp_path]
    ((cell, _),) = select_cells(QUICKSTART, tmp_path, "cpu", only=["plain14"], precision="32-true")
    path = write_run(tmp_path, cell=cell, data=cell.data.source)
    monkeypatch.setattr("benchmark.grid.run_all", lambda *_: pytest.fail("trained"))
    done = run_in_process("run", *words, "--precision", "bf16-mixed")
    assert_mistake(done, f"could not stand in one table with {path}", "precision '32-true' and 'bf16-mixed'")
    plan = run_in_process("plan", *words, "--precision", "bf16-mixed")
    assert plan.returncode == 0
    assert "note: these runs would be refused: plain14" in plan.stderr


def test_cifar100_is_refused_where_the_folder_holds_cifar10(run_in_process, tmp_path, image_tar):
    words = ["run", "cifar", *SMOKE, "--data-dir", image_tar, "--results-dir", tmp_path, "--dataset", "cifar100"]
    assert_mistake(run_in_process(*words), "noise.tar", "cifar100")


@pytest.mark.parametrize(
    ("word", "value"), [("true", True), ("False", False), ("none", "none"), ("2", 2), ("b'2'", "b'2'")]
)
def test_option_values(word, value):
    from benchmark.arguments import parse_network

    assert parse_network(f"cifar_resnet20:x={word}").network.options == {"x": value}
