"""The speed tables are added to row by row, and never lose one."""

import re

import pandas as pd
import pytest

from benchmark.errors import UserError
from benchmark.report.speed import draw_loops, write_speed
from benchmark.speed import measure, suite

SETTINGS = suite.Settings("cpu", "32-true", "off", batch_size=8, blocks=2, steps=3)


def row(network, milliseconds):
    """As ``measure_loops`` makes it."""
    return {
        "network": network,
        "precision": "32-true",
        "channels_last": True,
        "compile": "off",
        **{f"{name} ms": milliseconds for name in ("reference", "bare", "ours")},
        "images/s": 8000 / milliseconds,
        "ours vs reference": 1.0,
        "ours vs bare": 1.0,
        **{f"{phase} ms": 1.0 for phase in measure.PHASES},
        "TFLOP/s": 0.1,
        "utilisation": None,
        **{f"{name} {what} bytes": 10**9 for name in ("reference", "ours") for what in ("peak", "idle")},
    }


def test_what_was_measured_before_stays_unless_measured_again(tmp_path):
    environment = suite.environment(SETTINGS)
    write_speed(tmp_path, {"loops": [row("one", 10.0), row("two", 20.0)]}, environment)
    write_speed(tmp_path, {"loops": [row("two", 21.0), row("three", 30.0)]}, {**environment, "blocks": 7})
    (path,) = tmp_path.glob("tables/*-loops.csv")
    table = pd.read_csv(path).set_index("network")
    assert table["ours ms"].to_dict() == {"one": 10.0, "two": 21.0, "three": 30.0}
    assert table["steps"].to_dict() == {"one": 6, "two": 21, "three": 21}
    assert "Medians of 21, 6 steps" in path.with_name(path.name.replace("-loops.csv", ".md")).read_text()


def test_a_network_that_was_defined_anew_has_a_row_of_its_own(tmp_path):
    environment, agd, dense = suite.environment(SETTINGS), "cifar_agdnet40", "cifar_densenet40"
    write_speed(tmp_path, {"loops": [row(agd, 10.0), row(dense, 20.0)]}, environment)
    for milliseconds in (11.0, 12.0):
        paths = write_speed(tmp_path, {"loops": [row(agd, milliseconds) | {"definition": 2}]}, environment)
    table = pd.read_csv(paths[0])
    assert list(zip(table["network"], table["ours ms"], strict=True)) == [(agd, 10), (dense, 20), (agd, 12)]
    names = re.findall(r"^\| (cifar.*?) +\|", paths[1].read_text(), re.MULTILINE)
    assert names == [f"{agd} (definition 1)", dense, agd]


def test_settings_tell_rows_of_one_network_apart(tmp_path):
    environment = suite.environment(SETTINGS)
    loops = [row("one", 10.0), row("one", 5.0) | {"compile": "graphs"}, row("two", 20.0)]
    packed = {"network": "one", "precision": "32-true", "compile": "graphs", "way": "stacked", "runs": 4}
    packed |= {"ms": 20.0, "images/s": 400.0, "runs/hour": 2.0}
    paths = write_speed(tmp_path, {"loops": loops, "packed": [packed]}, environment)
    document = next(path for path in paths if path.suffix == ".md").read_text()
    names = [
        ("one", "32-true"),
        ("one", "32-true, CUDA graphs"),
        ("two", "32-true"),
        ("one", "32-true, CUDA graphs"),
    ]
    assert re.findall(r"^\| (one|two) +\| ([^|]+?) +\|", document, re.MULTILINE) == names
    figure = draw_loops([{**loop, "batch size": 8} for loop in loops], "CPU")
    ticks = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert ticks == ["one\n32-true", "one\n32-true, CUDA graphs", "two"]


def test_the_range_of_processes_stands_beside_a_ratio(tmp_path):
    """Rows of before the loops were measured in several have none, and alone need no note."""
    environment = suite.environment(SETTINGS)
    (*_, document) = (
        p for p in write_speed(tmp_path, {"loops": [row("old", 10.0)]}, environment) if p.suffix == ".md"
    )
    assert "By process:" not in document.read_text()
    new = row("new", 10.0) | {"processes": 5, "lowest ratio": 0.9, "highest ratio": 1.1}
    write_speed(tmp_path, {"loops": [new]}, environment)
    lines = {
        line.split("|")[1].strip(): line for line in document.read_text().splitlines() if line.startswith("| ")
    }
    column = [cell.strip() for cell in lines["network"].split("|")].index("by process")
    cells = {name: line.split("|")[column].strip() for name, line in lines.items()}
    assert cells == {"network": "by process", "old": "—", "new": "0.900 to 1.100 (5)"}
    assert "- By process: lowest and highest ratio (the column before) over so many" in document.read_text()


@pytest.mark.parametrize("definition", ["inf", "0", "1.5", "two"])
def test_a_definition_that_is_none_makes_no_table_of_speeds(tmp_path, definition):
    environment = suite.environment(SETTINGS)
    path, *_ = write_speed(tmp_path, {"loops": [row("one", 10.0) | {"definition": 1}]}, environment)
    pd.read_csv(path).assign(definition=definition).to_csv(path, index=False)
    with pytest.raises(UserError, match="is not a table of speeds"):
        write_speed(tmp_path, {"loops": [row("two", 10.0)]}, environment)
    assert "one" in path.read_text()


def test_a_table_that_cannot_be_read_is_not_overwritten(tmp_path):
    environment = suite.environment(SETTINGS)
    write_speed(tmp_path, {"loops": [row("one", 10.0)]}, environment)
    (path,) = tmp_path.glob("tables/*-loops.csv")
    path.write_text("not,a\ntable of,speeds")
    with pytest.raises(UserError, match="is not a table of speeds"):
        write_speed(tmp_path, {"loops": [row("two", 10.0)]}, environment)
    assert path.read_text() == "not,a\ntable of,speeds"


def test_commits_of_digits_stay_as_they_are(tmp_path):
    environment = {**suite.environment(SETTINGS), "git": {"commit": "0123456789", "dirty": False}}
    write_speed(tmp_path, {"loops": [row("one", 10.0)]}, environment)
    write_speed(tmp_path, {"loops": [row("two", 20.0)]}, environment)
    (path,) = tmp_path.glob("tables/*-loops.csv")
    assert pd.read_csv(path, dtype=str)["commit"].tolist() == ["0123456", "0123456"]
