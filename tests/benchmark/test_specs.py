"""Specs and run ids: round trip, stable hash, a different recipe is a different id."""

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.arguments import check_globs, parse_network
from benchmark.errors import UserError
from benchmark.experiments import EXPERIMENTS, get_experiment
from benchmark.specs import Cell, DataSpec, NetworkSpec, RecipeSpec, cell_from_dict, run_id, to_dict

names = st.text("abcdefghijklmnopqrstuvwxyz_0123456789", min_size=1, max_size=12)
values = st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False, allow_infinity=False) | names
cells = st.builds(
    Cell,
    experiment=names,
    row=names,
    dataset=names,
    profile=names,
    network=st.builds(NetworkSpec, names, st.dictionaries(names, values, max_size=3), st.integers(1, 3)),
    data=st.builds(DataSpec, names, st.booleans(), st.integers(0, 5000), names, names),
    recipe=st.builds(
        RecipeSpec,
        epochs=st.integers(1, 300),
        batch_size=st.integers(1, 512),
        learning_rate=st.floats(1e-4, 1),
        schedule=st.sampled_from(["step", "one_cycle"]),
        compile=st.booleans(),
    ),
)


@settings(max_examples=50, deadline=None)
@given(cells, st.integers(0, 2**32 - 1))
def test_round_trip_through_json_keeps_cell_and_id(cell, seed):
    again = cell_from_dict(json.loads(json.dumps(to_dict(cell))))
    assert again == cell
    assert run_id(again, seed) == run_id(cell, seed)


@settings(max_examples=50, deadline=None)
@given(cells, st.data())
def test_any_decisive_change_is_a_new_id(cell, data):
    part = data.draw(st.sampled_from(["network", "data", "recipe"]))
    spec = getattr(cell, part)
    field = data.draw(st.sampled_from([f.name for f in dataclasses.fields(spec)]))
    value = getattr(spec, field)
    changed = {bool: lambda v: not v, dict: lambda v: {**v, "new": 1}, tuple: lambda v: (*v, 0.9)}.get(
        type(value), lambda v: v + ("x" if isinstance(v, str) else 1)
    )(value)
    other = dataclasses.replace(cell, **{part: dataclasses.replace(spec, **{field: changed})})
    assert run_id(other, 0) != run_id(cell, 0)
    assert run_id(cell, 1) != run_id(cell, 0)


def test_order_of_options_does_not_matter():
    one, other = ({"a": 1, "b": 2}, {"b": 2, "a": 1})
    cell = EXPERIMENTS["cifar"].cells("paper")[0]
    ids = {run_id(dataclasses.replace(cell, network=NetworkSpec("n", options)), 0) for options in (one, other)}
    assert len(ids) == 1


def test_id_of_a_known_cell_is_stable():
    """A changed hash would orphan every record: change it only with SCHEMA_VERSION."""
    cell = Cell("e", "row:x=1", "cifar10+", "p", NetworkSpec("n"), DataSpec("d"), RecipeSpec())
    assert run_id(cell, 3) == "row-x-1-cifar10+-s3-4b0d07e70d"


def test_records_from_before_networks_had_a_definition_are_of_the_first():
    cell = Cell("e", "row", "cifar10+", "p", NetworkSpec("n"), DataSpec("d"), RecipeSpec())
    old = to_dict(cell)
    del old["network"]["definition"]
    assert cell_from_dict(old) == cell


def test_paper_rows_are_the_default_and_extra_rows_are_asked_for():
    cifar = EXPERIMENTS["cifar"]
    rows = {cell.row for cell in cifar.cells("paper")}
    assert rows == {
        *(f"cifar_{s}{d}" for s in ("resnet", "hbnet") for d in (56, 110)),
        *(f"cifar_{s}{d}" for s in ("densenet", "agdnet") for d in (40, 52)),
    }
    assert len(cifar.cells("paper")) == 32
    asked = {cell.name for cell in cifar.cells("short", ["cifar10+"], ["*plain20", "cifar_resnet20@cifar10+"])}
    assert asked == {"cifar_plain20@cifar10+", "cifar_resnet20@cifar10+"}


def test_a_row_with_brackets_in_its_name_is_asked_for_by_it():
    row = parse_network("cifar_resnet20:depth=8,widths=[4,4,4]")
    experiment = dataclasses.replace(EXPERIMENTS["quickstart"], rows=(row,))
    assert [cell.row for cell in experiment.cells("smoke", only=[row.key])] == [row.key]
    check_globs([row.key, "*depth=8*"], [row.key], "row", [])


def test_dense_networks_drop_out_without_augmentation_only():
    for cell in EXPERIMENTS["cifar"].cells("paper"):
        dropout = cell.network.options.get("dropout")
        dense = "dense" in cell.row or "agd" in cell.row
        assert dropout == (0.2 if dense and not cell.data.augment else None), cell.name


@pytest.mark.parametrize("experiment", EXPERIMENTS.values(), ids=EXPERIMENTS)
def test_rows_are_consistent(experiment):
    keys = [row.key for row in experiment.rows]
    assert len(set(keys)) == len(keys)
    assert {row.baseline for row in experiment.rows} - {None} <= set(keys)
    assert experiment.default_profile in experiment.profiles


def test_unknown_experiment_names_the_closest():
    with pytest.raises(UserError, match="unknown experiment 'cifra'; did you mean cifar"):
        get_experiment("cifra")


def test_an_id_of_any_row_is_a_name_of_a_folder(tmp_path):
    cell = next(iter(get_experiment("quickstart").cells("smoke")))
    ids = {run_id(dataclasses.replace(cell, row="ü" * 300 + end), 0) for end in "ab"}
    ids.add(longest := run_id(dataclasses.replace(cell, row="a" * (255 - 1 - len("digits-s0-0123456789"))), 0))
    assert len(ids) == 3
    assert longest.startswith("a" * 200)
    for name in ids:
        (tmp_path / name).mkdir()
