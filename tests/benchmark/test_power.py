"""What a plan says of the differences that its seeds can show."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmark.experiments import get_experiment
from benchmark.ledger import Record
from benchmark.power import describe_power
from benchmark.report.statistics import detectable

CIFAR = get_experiment("cifar")
PAIR = ["cifar_resnet20", "cifar_hbnet20"]


def records(seeds, rows=PAIR, profile="short", status="done", experiment=CIFAR, source="", **words):
    cells = experiment.cells(profile, only=rows, **words)
    cells = [replace(cell, data=replace(cell.data, source=source)) for cell in cells]
    return [Record(Path(), cell, seed, {"status": status}, ()) for cell in cells for seed in seeds]


def lines(planned, found=(), experiment=CIFAR):
    return list(describe_power(experiment, planned, found))


def ends(planned, found=()):
    (line,) = lines(planned, found)
    return line.rpartition(": ")[2]


ONE = {"datasets": ["cifar10+"]}


def test_more_seeds_and_fewer_comparisons_show_smaller_differences():
    (line,) = lines(records(range(3), **ONE))
    assert line.startswith("1 comparison: it is")
    assert ends(records(range(3), **ONE)) == "3.3 with 3, 1.7 with 5, 1.0 with 10."
    assert ends(records(range(6), **ONE)) == "1.4 with 6, 1.0 with 10."
    assert lines(records(range(3)))[0].startswith("4 comparisons: one is")


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


def test_runs_of_an_older_definition_are_not_counted():
    """They stand in no table any more."""
    rows, words = ["cifar_densenet22", "cifar_agdnet22-fixed_point-fixed"], {"datasets": ["cifar10+"]}
    theirs, planned = records(range(8), rows[:1], **words), records(range(2), rows[1:], **words)
    older = [replace(r, cell=replace(r.cell, network=replace(r.cell.network, definition=0))) for r in planned * 4]
    older = [replace(record, seed=seed) for seed, record in enumerate(older)]
    assert ends(planned, theirs + older).startswith(f"{detectable(2, 1):.1f} with 2")


def test_a_comparison_of_one_seed_does_not_hide_the_others():
    alone = records([0], ["cifar_resnet20", "cifar_hbnet20-fixed"], **ONE)
    assert ends(records(range(3), **ONE), alone).startswith("3.3 with 3")
