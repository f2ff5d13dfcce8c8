"""What a plan says of the differences that its seeds can show."""

import dataclasses
from pathlib import Path

import pytest

from benchmark.experiments import get_experiment
from benchmark.ledger import Record
from benchmark.power import describe_power

CIFAR = get_experiment("cifar")
PAIR = ["cifar_resnet20", "cifar_hbnet20"]


def records(seeds, rows=PAIR, profile="short", status="done", experiment=CIFAR, source="", **words):
    cells = experiment.cells(profile, only=rows, **words)
    cells = [dataclasses.replace(cell, data=dataclasses.replace(cell.data, source=source)) for cell in cells]
    return [Record(Path(), cell, seed, {"status": status}, ()) for cell in cells for seed in seeds]


def lines(planned, found=(), experiment=CIFAR):
    return list(describe_power(experiment, planned, found))


def ends(planned, found=()):
    (line,) = lines(planned, found)
    return line.rpartition(": ")[2]


ONE = {"datasets": ["cifar10+"]}


def test_more_seeds_and_fewer_comparisons_show_smaller_differences():
    (line,) = lines(records(range(3), **ONE))
    assert line.startswith("1 comparison: it stands")
    assert ends(records(range(3), **ONE)) == "3.3 with 3, 1.7 with 5, 1.0 with 10."
    assert ends(records(range(6), **ONE)) == "1.4 with 6, 1.0 with 10."
    assert lines(records(range(3)))[0].startswith("4 comparisons: one stands")


def test_what_is_done_counts():
    done, planned = records(range(3), **ONE), records([3], **ONE)
    assert ends(planned, done) == ends(records(range(4), **ONE))
    assert "has no interval" in lines(planned)[0]
    assert ends(records(range(3), PAIR[1:], **ONE), records(range(3), PAIR[:1], **ONE)).startswith("3.3 with 3")


@pytest.mark.parametrize(
    "other",
    [{"profile": "quick"}, {"status": "failed"}, {"source": "CIFAR-10 (JPEG copy)"}],
    ids=str,
)
def test_what_stands_in_another_table_does_not(other):
    assert ends(records(range(3), **ONE), records(range(9), **ONE, **other)).startswith("3.3 with 3")


def test_the_fewest_seeds_are_told():
    assert ends(records(range(3), **ONE), records(range(9), PAIR[:1], **ONE)).startswith("3.3 with 3")


def test_no_comparison_no_line():
    assert lines(records(range(3), PAIR[:1])) == []
    assert lines(records(range(3), profile="smoke")) == []
    hypothesis = get_experiment("hypothesis-digits")
    cells = hypothesis.cells(hypothesis.default_profile)
    assert lines([Record(Path(), cell, 0, {"status": "done"}, ()) for cell in cells], experiment=hypothesis) == []
