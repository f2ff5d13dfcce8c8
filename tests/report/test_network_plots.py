import re

import numpy as np
import pytest
import torch

from benchmark.experiments.cifar import EXPERIMENT
from benchmark.ledger import read_records
from benchmark.report.coefficient_plots import layer_coefficients, write_coefficients
from benchmark.report.cost_plots import pareto_front, side_by_side, write_costs
from benchmark.report.gradient_plots import layer_norms, write_gradients
from benchmark.report.layer_order import layer_order
from benchmark.report.step_table_plots import step_tables, write_learned_tables
from lightning_modules import create_network, list_networks

BETA = "stages.0.rule.beta"


def learned(*values):
    return {
        BETA: {"start": [0.5, 0.5], "end": list(values)},
        "stages.1.rule.beta": {"start": [0.5], "end": [0.1]},
        "blocks.0.table.1": {"start": [1.0, 0.3], "end": [1.0, 0.2]},
    }


def test_coefficients_of_each_layer_by_run(results, add_run):
    for seed, values in enumerate([(0.4, 0.6), (0.2, 0.8)]):
        add_run("cifar_hbnet20", seed=seed, coefficients=learned(*values))
    coefficients = layer_coefficients(read_records(results, "cifar"))
    assert list(coefficients) == [BETA]
    start, end = coefficients[BETA]
    np.testing.assert_array_equal(start, [0.5, 0.5])
    np.testing.assert_array_equal(end, [[0.4, 0.6], [0.2, 0.8]])


def test_coefficients_are_drawn_for_the_rows_that_learned_any(results, add_run):
    add_run("cifar_resnet20", coefficients={})
    assert write_coefficients(EXPERIMENT, results) == []
    add_run("cifar_hbnet20", coefficients=learned(0.4, 0.6))
    paths = write_coefficients(EXPERIMENT, results)
    assert [path.name for path in paths] == ["cifar-coefficients-paper.svg", "cifar-coefficients-paper.png"]
    before = [path.read_bytes() for path in paths]
    assert [path.read_bytes() for path in write_coefficients(EXPERIMENT, results)] == before


def test_panels_without_a_network_are_hidden(results, add_run):
    """Four panels take two lines of three; a panel with nothing in it is not shown."""
    for row in ("cifar_hbnet20", "cifar_hbnet20-fixed_point", "cifar_hbnet20-free", "cifar_agdresnet20"):
        add_run(row, coefficients=learned(0.4, 0.6))
    write_coefficients(EXPERIMENT, results)
    (panels,) = (len(re.findall('id="axes_', path.read_text())) for path in results.glob("plots/*.svg"))
    assert panels == 4


def test_records_without_coefficients_are_left_out(results, add_run):
    add_run("cifar_hbnet20", seed=0, coefficients=learned(0.4, 0.6))
    add_run("cifar_hbnet20", seed=1)
    add_run("cifar_hbnet20", seed=2, coefficients={})
    _, end = layer_coefficients(read_records(results, "cifar"))[BETA]
    np.testing.assert_array_equal(end, [[0.4, 0.6]])


def test_step_tables_of_each_block_by_hand(results, add_run):
    for seed, factor in enumerate((0.2, 0.6)):
        tables = {
            f"blocks.{block}.table.{k}": {"start": start, "end": end}
            for block in (0, 2)
            for k, (start, end) in enumerate([([1.0], [1.0 + block]), ([0.0, 1.5], [factor, 2.0])])
        }
        add_run("cifar_agdnet22", seed=seed, coefficients={**learned(0.4, 0.6), **tables} if seed else tables)
    tables = step_tables(read_records(results, "cifar"))
    assert list(tables) == ["start", "blocks.0", "blocks.2"]
    np.testing.assert_array_equal(tables["start"], [[1.0, np.nan], [0.0, 1.5]])
    np.testing.assert_allclose(tables["blocks.2"], [[3.0, np.nan], [0.4, 2.0]])


def test_a_table_of_more_than_ten_layers_keeps_its_rows_in_order(results, add_run):
    """Records are sorted by name, in which row 10 stands before row 2."""
    rows = [[float(k)] * (k + 1) for k in range(12)]
    add_run(
        "cifar_agdnet40", coefficients={f"blocks.0.table.{k}": {"start": r, "end": r} for k, r in enumerate(rows)}
    )
    table = step_tables(read_records(results, "cifar"))["blocks.0"]
    assert [row[~np.isnan(row)].tolist() for row in table] == rows


@pytest.mark.parametrize("name", list_networks())
def test_layers_are_ordered_as_in_every_network(name):
    with torch.device("meta"):
        network = create_network(name)
    names = [key.removesuffix(".weight") for key, weight in network.named_parameters() if weight.ndim > 1]
    assert sorted(sorted(names), key=layer_order) == names


def test_gradients_of_a_record_are_read_from_the_stem_on(results, add_run):
    names = ("stem.0", "stages.0.transforms.2.conv1", "stages.0.transforms.10.conv1", "classifier")
    gradients = {name: {"start": float(i), "end": 0.0} for i, name in enumerate(names)}
    add_run("cifar_hbnet20", gradient_norms=gradients)
    np.testing.assert_array_equal(layer_norms(read_records(results, "cifar"), "start"), [[0.0, 1.0, 2.0, 3.0]])


def test_step_tables_are_drawn_for_dense_networks_that_learned_them(results, add_run):
    table = {f"blocks.0.table.{k}": {"start": [0.1] * k + [1.5], "end": [-0.2] * k + [2.5]} for k in range(3)}
    add_run("cifar_hbnet20", coefficients={BETA: learned(0.4, 0.6)[BETA]})
    add_run("cifar_densenet40", coefficients={})
    assert write_learned_tables(EXPERIMENT, results) == []
    add_run("cifar_agdnet40", coefficients=table)
    paths = write_learned_tables(EXPERIMENT, results)
    assert [path.name for path in paths] == ["cifar-step_tables-paper.svg", "cifar-step_tables-paper.png"]
    before = [path.read_bytes() for path in paths]
    assert [path.read_bytes() for path in write_learned_tables(EXPERIMENT, results)] == before


def test_each_data_set_has_the_times_of_its_own_usual_device(results, add_run, figures):
    for seed in (0, 1):
        add_run(seed=seed)
    add_run(dataset="cifar100+", device="GPU: NVIDIA H200", data="CIFAR-100")
    write_costs(EXPERIMENT, results)
    here, there = (figures[-1].axes[i].get_xlabel() for i in (2, 5))
    assert "H200" in there
    assert "H200" not in here


def test_equal_costs_stand_side_by_side_around_their_place():
    first, alone, second, third = side_by_side([100.0, 1000.0, 101.0, 100.0])
    assert first < second < third
    assert alone == 1000
    assert first * third == pytest.approx(100 * 100)
    assert second == 101
    many = side_by_side([100.0] * 14)
    assert sorted(many) == many
    assert many[-1] / many[0] == pytest.approx(1.5)


def test_cost_is_drawn_for_each_section(results, add_run):
    for seed in (0, 1):
        add_run("cifar_resnet20", 5.0 + seed, seed=seed)
        add_run("cifar_hbnet20", 4.0 + seed, seed=seed, dataset="cifar10")
    add_run("cifar_plain20", profile="short", status="diverged")
    paths = write_costs(EXPERIMENT, results)
    assert [path.name for path in paths] == ["cifar-cost-paper.svg", "cifar-cost-paper.png"]
    before = [path.read_bytes() for path in paths]
    assert [path.read_bytes() for path in write_costs(EXPERIMENT, results)] == before


def norms(*pairs):
    return {f"conv{i}": {"start": start, "end": end} for i, (start, end) in enumerate(pairs)}


def test_gradient_norms_by_run_and_layer(results, add_run):
    add_run("cifar_hbnet20", seed=0, gradient_norms=norms((1.0, 0.1), (2.0, 0.2)))
    add_run("cifar_hbnet20", seed=1)
    add_run("cifar_hbnet20", seed=2, gradient_norms={"conv0": {"end": 0.3}, "conv1": {"end": 0.4}})
    records = read_records(results, "cifar")
    np.testing.assert_array_equal(layer_norms(records, "start"), [[1.0, 2.0]])
    np.testing.assert_array_equal(layer_norms(records, "end"), [[0.1, 0.2], [0.3, 0.4]])


def test_gradients_are_drawn_for_the_runs_that_recorded_them(results, add_run):
    add_run("cifar_plain20")
    assert write_gradients(EXPERIMENT, results) == []
    add_run("cifar_resnet20", gradient_norms=norms((1.0, 0.1), (2.0, 0.0)))
    add_run("cifar_hbnet20", gradient_norms=norms((1.0, 0.1), (2.0, 0.2), (3.0, 0.3)))
    add_run("cifar_hbnet20", seed=1, gradient_norms=norms((1.5, 0.1), (2.0, 0.1), (3.0, 0.3)))
    paths = write_gradients(EXPERIMENT, results)
    assert [path.name for path in paths] == ["cifar-gradients-paper.svg", "cifar-gradients-paper.png"]
    before = [path.read_bytes() for path in paths]
    assert [path.read_bytes() for path in write_gradients(EXPERIMENT, results)] == before


def test_pareto_front_by_hand():
    assert pareto_front([(3, 5), (1, 9), (2, 9), (2, 6), (3, 7), (4, 6)]) == [(1, 9), (2, 6), (3, 5)]
    assert pareto_front([(1, 4), (2, 5)]) == [(1, 4)]
