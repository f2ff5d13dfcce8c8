"""Whatever happens to the files of records: the same table, byte for byte, or a refusal that names the path."""

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmark.errors import UserError
from benchmark.experiments.cifar import EXPERIMENT
from benchmark.report.tables import write_tables

from .conftest import PAPER

ROWS = ("cifar_resnet20", "cifar_hbnet20")


def tables(results):
    return [path.read_bytes() for path in write_tables(EXPERIMENT, results, PAPER)]


def tables_or_refusal(results):
    try:
        return tables(results)
    except UserError as error:
        return str(error)


@pytest.fixture
def whole(results, add_run):
    """Two rows of three seeds, and their tables."""
    for row in ROWS:
        for seed in range(3):
            add_run(row, 5.0 + seed / 7, seed=seed)
    return results, tables(results)


def flip(path, position, bit):
    data = bytearray(path.read_bytes())
    data[position % len(data)] ^= 1 << bit
    path.write_bytes(bytes(data))


def cut(path, position, bit):
    path.write_bytes(path.read_bytes()[: position % path.stat().st_size])


def remove(path, position, bit):
    path.unlink()


def duplicate(path, position, bit):
    shutil.copytree(path.parent, path.parent.with_name(f"{path.parent.name}-{bit}"))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    damage=st.sampled_from([flip, flip, flip, cut, remove, duplicate]),
    number=st.integers(0, 5),
    name=st.sampled_from(["result.json", "metrics.csv", "spec.json"]),
    position=st.integers(0, 10**6),
    bit=st.integers(0, 7),
)
def test_the_same_table_or_a_refusal(whole, damage, number, name, position, bit):
    results, expected = whole
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "results"
        shutil.copytree(results / "runs", copy / "runs")
        run = sorted(copy.glob("runs/*/*/"))[number]
        damage(run / name, position, bit)
        found = tables_or_refusal(copy)
    if isinstance(found, str):
        assert run.name in found
        assert "\n" not in found
    else:
        assert found == expected or (damage is remove and name == "result.json")


def test_a_renamed_field_is_refused(whole):
    results, _ = whole
    path = next(iter(sorted(results.glob("runs/*/*/result.json"))))
    path.write_text(path.read_text().replace('"run_id"', '"run_ie"'))
    assert path.parent.name in tables_or_refusal(results)


def test_a_record_that_is_gone_is_a_missing_seed(whole):
    results, _ = whole
    run = next(iter(sorted(results.glob("runs/*/*-s1-*"))))
    shutil.rmtree(run)
    text = b"".join(tables(results)).decode()
    assert "2 of 3 seeds (missing 1)" in text
