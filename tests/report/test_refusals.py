"""Records that no table is made of."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from benchmark.errors import UserError
from benchmark.experiments.cifar import EXPERIMENT
from benchmark.ledger import Record, read_records
from benchmark.report.sections import refuse_unlike
from benchmark.report.tables import load_results, write_tables

from .conftest import PAPER, make_cell
from .tables import text


@pytest.mark.parametrize("seed", [0, 1])
def test_another_recipe_is_refused(results, add_run, seed):
    first = add_run(seed=0)
    second = add_run(seed=seed, recipe={"epochs": 7})
    with pytest.raises(UserError, match="recipe differs") as refusal:
        write_tables(EXPERIMENT, results, PAPER)
    assert str(first) in str(refusal.value)
    assert str(second) in str(refusal.value)
    assert "300" in str(refusal.value)
    assert not (results / "tables").exists()


def test_another_network_or_other_bytes_are_refused(results, add_run):
    add_run(seed=0)
    cell = make_cell(EXPERIMENT, "cifar_resnet20", "cifar10+", "paper", "CIFAR-10")
    network = add_run(seed=1, cell=replace(cell, network=replace(cell.network, options={"depth": 26})))
    with pytest.raises(UserError, match="network differs"):
        text(results)
    shutil.rmtree(network)
    add_run("cifar_hbnet20", seed=1, cell=replace(cell, data=replace(cell.data, checksum="other")))
    with pytest.raises(UserError, match="data differs"):
        text(results)


def test_precision_may_differ_between_seeds_but_not_count_one_twice(results, add_run):
    add_run(seed=0)
    add_run(seed=1, recipe={"precision": "bf16-mixed"})
    assert "Precision: 32-true, bf16-mixed" in text(results)
    add_run(seed=0, recipe={"precision": "bf16-mixed"})
    with pytest.raises(UserError, match="run of this seed differs"):
        text(results)


def planned(cell, seed):
    return Record(Path("runs") / cell.row, cell, seed, {"status": "done"}, ())


def test_runs_that_no_table_could_hold_are_refused_before_they_are_trained(results, add_run):
    first = add_run(seed=0)
    add_run("cifar_hbnet20", seed=0, status="failed", recipe={"epochs": 7})
    runs = read_records(results, "cifar")
    cell = make_cell(EXPERIMENT, "cifar_resnet20", "cifar10+", "paper", "CIFAR-10")
    shorter = replace(cell, recipe=replace(cell.recipe, epochs=7))
    faster = replace(cell, recipe=replace(cell.recipe, precision="bf16-mixed"))
    for allowed in (
        planned(cell, 1),
        planned(faster, 1),
        planned(replace(shorter, profile="short"), 0),
        planned(replace(shorter, profile="smoke"), 0),
        planned(replace(cell, network=replace(cell.network, definition=2, options={"depth": 26})), 0),
    ):
        refuse_unlike([allowed], runs)
    for refused, what in (
        (planned(replace(shorter, row="cifar_hbnet20"), 1), "recipe differs (epochs 300 and 7)"),
        (planned(replace(cell, network=replace(cell.network, options={"depth": 26})), 1), "network differs"),
        (
            planned(faster, 0),
            "run of this seed differs",
        ),
    ):
        with pytest.raises(UserError, match=re.escape(what)) as refusal:
            refuse_unlike([planned(cell, 2), refused], runs)
        assert f"seed {refused.seed}, could not stand in one table with {first}" in str(refusal.value)
        assert "--results-dir" in str(refusal.value)


def test_a_table_that_cannot_be_made_already_is_told_before_training(results, add_run):
    add_run(seed=0)
    add_run("cifar_hbnet20", seed=1, recipe={"epochs": 7})
    cell = make_cell(EXPERIMENT, "cifar_plain20", "cifar10+", "paper", "CIFAR-10")
    with pytest.raises(UserError, match=r"recipe differs.*move one of the two folders away"):
        refuse_unlike([planned(cell, 0)], read_records(results, "cifar"))


def test_no_results(tmp_path, results):
    with pytest.raises(UserError, match="does not exist"):
        write_tables(EXPERIMENT, tmp_path / "nowhere", PAPER)
    with pytest.raises(
        UserError, match=r"no finished runs of 'cifar' under .*runs/cifar; run `python -m benchmark run"
    ):
        write_tables(EXPERIMENT, results, PAPER)
    with pytest.raises(UserError, match="no finished runs"):
        load_results(results, "cifar")


def test_only_failures_are_no_results(results, add_run):
    add_run(status="failed")
    with pytest.raises(UserError, match="no finished runs"):
        text(results)


def test_edited_record_is_refused_by_path(results, add_run):
    record = add_run() / "result.json"
    record.write_text(record.read_text().replace('"epochs": 300', '"epochs": 30'))
    with pytest.raises(UserError, match="edited") as refusal:
        text(results)
    assert str(record) in str(refusal.value)


def test_incomplete_record_is_refused_by_path(results, add_run):
    path = add_run(parameters=None)
    with pytest.raises(UserError, match=re.escape(str(path)) + ".*lacks parameters"):
        text(results)


def test_damaged_published_numbers(results, add_run, tmp_path):
    add_run()
    (tmp_path / "cifar.csv").write_text("model,value\nResNet,5\n")
    with pytest.raises(UserError, match="not a table of published numbers"):
        text(results, paper=tmp_path)
