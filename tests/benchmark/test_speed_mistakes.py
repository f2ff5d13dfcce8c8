"""``speed`` refuses what it cannot use or write before it measures anything."""

import pytest

from benchmark import machine
from benchmark.report.speed import slug
from benchmark.speed import suite
from tests.benchmark.commands import assert_mistake


@pytest.fixture(autouse=True)
def nothing_is_measured(monkeypatch):
    monkeypatch.setattr(suite, "measure_loops", None)


@pytest.fixture
def speed(run_in_process, tmp_path):
    return lambda *words: run_in_process("speed", "--device", "cpu", "--results-dir", tmp_path, *words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--only", "cifar_resnet65"], "no measured network matches cifar_resnet65; did you mean cifar_resnet56"),
        (["--batch-size", "0"], "--batch-size is 0; it must be at least 1"),
        (["--batch-size", "9000"], "batch size 9000 is larger than the 8192 images"),
        (["--compile", "always"], "unknown --compile 'always'; valid: auto, off, default, graphs, compiled-graphs"),
        (
            ["--pack", "2", "--only", "*20"],
            "--pack is for cifar_resnet56 and cifar_densenet40; --only leaves them out",
        ),
        (["--pack", "two"], "count 'two' is not a positive integer"),
        (["--precision", "int4"], "unknown precision 'int4'; valid: auto, 32-true, bf16-mixed"),
    ],
    ids=str,
)
def test_mistakes(speed, words, message):
    assert_mistake(speed(*words), message)


def test_photographs_that_are_not_there(speed):
    assert_mistake(speed("--data-dir", "/nosuch"), "/nosuch")


@pytest.mark.parametrize("table", ["structures", "input"])
def test_a_table_that_cannot_be_read(speed, tmp_path, table):
    (tmp_path / "tables").mkdir()
    path = tmp_path / "tables" / f"speed-{slug(machine.describe_device('cpu'))}-{table}.csv"
    path.write_text("a;b\n1;2\n")
    assert_mistake(speed(), f"{path} is not a table of speeds", "move it away to measure anew")
    assert path.read_text() == "a;b\n1;2\n"
