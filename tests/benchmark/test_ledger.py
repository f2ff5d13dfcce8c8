"""Records: atomic, never overwritten, refused when damaged."""

import json
import math
import os
import shutil
import threading

import pytest

from benchmark import ledger, run
from benchmark.errors import UserError
from benchmark.ledger import RunFolder, WriteError, read_records, write_atomically
from benchmark.plan import PlannedRun
from benchmark.specs import Cell, DataSpec, NetworkSpec, RecipeSpec


@pytest.fixture
def folder(tmp_path):
    cell = Cell("exp", "row", "data", "short", NetworkSpec("n"), DataSpec("d"), RecipeSpec())
    return RunFolder(tmp_path, cell, 0)


def test_record_round_trip(folder, tmp_path):
    assert folder.status() == "to do"
    folder.write_spec()
    folder.write_metrics([{"epoch": 0, "eval_error": 12.5}, {"epoch": 1, "eval_error": 0.1 + 0.2}])
    assert folder.status() == "started"
    folder.write_result("done", {"test_error": 9.25})
    (record,) = read_records(tmp_path, "exp")
    assert (record.status, record.seed, record.cell) == ("done", 0, folder.cell)
    assert record.result["test_error"] == 9.25
    assert [row["eval_error"] for row in record.metrics] == [12.5, 0.1 + 0.2]
    assert json.loads((folder.path / "spec.json").read_text())["seed"] == 0


@pytest.mark.parametrize("status", ["done", "diverged"])
def test_a_finished_run_is_never_overwritten(folder, status):
    folder.write_result(status, {"test_error": 1.0})
    before = (folder.path / "result.json").read_bytes()
    with pytest.raises(RuntimeError, match="never overwritten"):
        folder.write_result("failed", {"reason": "later"})
    assert (folder.path / "result.json").read_bytes() == before


@pytest.mark.parametrize("status", ["failed", "interrupted"])
def test_an_unfinished_run_can_be_done_later(folder, status):
    folder.write_result(status, {"reason": "r"})
    folder.write_result("done", {"test_error": 1.0})
    assert folder.status() == "done"


def test_a_run_that_goes_on_forgets_how_it_had_ended(folder, tmp_path):
    """Else its growing metrics would look edited."""
    folder.write_metrics([{"epoch": 0, "eval_error": 12.5}])
    folder.write_result("interrupted", {"reason": "r"})
    folder.reopen()
    folder.write_metrics([{"epoch": 0, "eval_error": 12.5}, {"epoch": 1, "eval_error": 11.5}])
    assert read_records(tmp_path, "exp") == []
    assert folder.status() == "started"
    folder.write_result("done", {"test_error": 1.0})
    folder.reopen()
    assert folder.status() == "done"


def test_a_failing_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "result.json"
    write_atomically(path, "old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match=r"cannot write .*result\.json: No space left"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]


def edit(folder, change):
    path = folder.path / "result.json"
    result = json.loads(path.read_text())
    change(result)
    path.write_text(json.dumps(result))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r["spec"]["recipe"].update(epochs=1), "does not match its run id"),
        (lambda r: r.update(seed=5), "does not match its run id"),
        (lambda r: r.update(seed=math.inf), "not a run record"),
        (lambda r: r.update(test_error=0.5), "was edited: its checksum differs"),
        (lambda r: r.update(schema_version=99), "schema version 99"),
        (lambda r: r.update(status="great"), "status 'great'; valid: done"),
        (lambda r: r.pop("spec"), "not a run record"),
        (lambda r: r.pop("status"), "not a run record"),
    ],
)
def test_an_edited_record_is_refused_with_its_path(folder, tmp_path, change, message):
    folder.write_result("done", {"test_error": 1.0})
    edit(folder, change)
    with pytest.raises(UserError, match=message) as error:
        read_records(tmp_path, "exp")
    assert str(folder.path / "result.json") in str(error.value)


def test_the_record_of_another_run_is_not_this_ones(folder, tmp_path):
    other = RunFolder(tmp_path, folder.cell, 1)
    other.write_result("done", {"test_error": 1.0})
    folder.path.mkdir(parents=True)
    shutil.copy(other.path / "result.json", folder.path)
    with pytest.raises(UserError, match=r"-s0-.*result\.json is the record of another run, row-data-s1-"):
        folder.status()


def test_an_edited_status_is_refused_before_the_run_is_skipped(folder):
    folder.write_result("failed", {"reason": "r"})
    edit(folder, lambda r: r.update(status="done"))
    with pytest.raises(UserError, match=r"result\.json was edited"):
        folder.status()


def test_a_record_of_another_experiment_is_refused(folder, tmp_path):
    folder.write_result("done", {"test_error": 1.0})
    (tmp_path / "runs/exp").rename(tmp_path / "runs/another")
    with pytest.raises(UserError, match=r"does not match its run id \(exp/row-data-s0-"):
        read_records(tmp_path, "another")


@pytest.mark.parametrize("text", ["", "[" * 100_000, "null", "{}", '{"status": [1], "schema_version": 1}'])
def test_a_file_that_is_no_record_is_refused(folder, tmp_path, text):
    folder.path.mkdir(parents=True)
    (folder.path / "result.json").write_text(text)
    for read in (folder.status, lambda: read_records(tmp_path, "exp")):
        with pytest.raises(UserError, match=r"result\.json"):
            read()


def test_a_run_that_goes_on_while_records_are_read_is_left_out(folder, tmp_path, monkeypatch):
    """Another process forgets how it had ended, and adds an epoch."""
    folder.write_metrics([{"epoch": 0, "eval_error": 12.5}])
    folder.write_result("interrupted", {"reason": "r"})
    read = ledger._sha256_of_file

    def goes_on(path):
        folder.reopen()
        folder.write_metrics([{"epoch": 0, "eval_error": 12.5}, {"epoch": 1, "eval_error": 11.5}])
        return read(path)

    monkeypatch.setattr(ledger, "_sha256_of_file", goes_on)
    assert read_records(tmp_path, "exp") == []


def test_edited_metrics_are_refused(folder, tmp_path):
    folder.write_metrics([{"epoch": 0, "eval_error": 12.5}])
    folder.write_result("done", {"test_error": 12.5})
    path = folder.path / "metrics.csv"
    path.write_text(path.read_text().replace("12.5", "2.5"))
    with pytest.raises(UserError, match="was edited"):
        read_records(tmp_path, "exp")


def test_metrics_that_cannot_be_read_are_told(folder, tmp_path):
    folder.write_result("done", {"test_error": 12.5})
    (folder.path / "metrics.csv").mkdir()
    with pytest.raises(UserError, match=r"metrics\.csv cannot be read: Is a directory"):
        read_records(tmp_path, "exp")


def test_half_a_record_is_refused(folder, tmp_path):
    folder.write_result("done", {"test_error": 1.0})
    path = folder.path / "result.json"
    path.write_text(path.read_text()[:50])
    with pytest.raises(UserError, match=r"result\.json is not a run record"):
        read_records(tmp_path, "exp")


def test_one_writer_at_a_time(folder):
    with folder.lock() as first:
        assert first
        seen = []

        def other():
            with RunFolder(folder.path.parents[2], folder.cell, 0).lock() as second:
                seen.append(second)

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert seen == [False]
    with folder.lock() as again:
        assert again


def test_a_record_that_cannot_be_read_is_not_left_out(folder, tmp_path):
    folder.path.mkdir(parents=True)
    (folder.path / "result.json").symlink_to("result.json")
    for read in (lambda: read_records(tmp_path, "exp"), folder.result):
        with pytest.raises(UserError, match=r"result\.json cannot be read: Too many levels"):
            read()


def test_a_link_stays_a_link_and_a_pipe_a_pipe(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "file")
    write_atomically(tmp_path / "link", "text")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text() == "text"
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(WriteError, match="it is not a file"):
        write_atomically(tmp_path / "pipe", "text")


def test_names_that_are_not_text_are_written_escaped(tmp_path):
    write_atomically(tmp_path / "file", "im\udcff")
    assert (tmp_path / "file").read_text() == r"im\udcff"


@pytest.mark.parametrize("damage", ["epoch,eval_error\n0", "\0" * 300_000, "a" * 200_000])
def test_a_damaged_table_of_metrics_stops_no_plan(folder, damage):
    """The run that it is of writes it anew from its checkpoint, or without one fails alone."""
    folder.path.mkdir(parents=True)
    (folder.path / "metrics.csv").write_text(damage)
    assert PlannedRun(folder, "row", 1, 1, 0.1, 60.0, "started").seconds_left == 60.0
    with pytest.raises(RuntimeError, match=r"not a table of metrics: .*; there is no checkpoint; remove"):
        run._find_last_epoch(folder)
