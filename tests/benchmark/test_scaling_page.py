"""docs/scaling.md: each command prints what stands below it, from the step times that are committed."""

import functools
import json
import math
import re
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmark import grid, plan
from benchmark.complexity import complexity
from benchmark.specs import NetworkSpec
from benchmark.step_times import read_step_times

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"```console\n\$ python -m benchmark (.+)\n((?:.*\n)*?)```")
LEFT_OUT = "..."
WIDTH = 100


@functools.cache
def count(name, options, *image):
    return complexity(NetworkSpec(name, json.loads(options)), *image)


def count_once(network, num_classes, image_shape):
    """The sizes of a network, which dropout and seeds do not change."""
    options = {name: value for name, value in network.options.items() if name != "dropout"}
    return count(network.name, json.dumps(options), num_classes, image_shape)


def trimmed(text):
    """Its lines without the blanks at their ends, nor blank lines at its own."""
    return "\n".join(line.rstrip() for line in text.splitlines()).strip("\n").splitlines()


def test_commands_print_what_the_page_shows(monkeypatch, capsys, tmp_path):
    import benchmark.__main__ as cli

    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    monkeypatch.setattr(grid, "complexity", count_once)
    monkeypatch.setattr(plan, "complexity", count_once)
    blocks = BLOCK.findall((ROOT / "docs/scaling.md").read_text(encoding="utf-8"))
    assert len(blocks) == 2
    for words, shown in blocks:
        argv = ["benchmark", *shlex.split(words), "--device", "cpu", "--results-dir", str(tmp_path)]
        monkeypatch.setattr(sys, "argv", argv)
        with pytest.raises(SystemExit) as stop:
            cli.main()
        printed, error = capsys.readouterr()
        assert not stop.value.code, error
        lines = trimmed(printed)
        start, _, end = shown.rpartition(LEFT_OUT)
        start, end = trimmed(start), trimmed(end)
        assert lines[: len(start)] == start
        assert lines[len(lines) - len(end) :] == end
        assert LEFT_OUT in shown or len(lines) == len(end)


def test_scaling_by_multiply_adds_is_as_near_as_the_page_says():
    """The deeper network of each kind, had only the shallower one been measured."""
    times = read_step_times(ROOT / "results/tables/step-times-cpu-amd-epyc-1-thread.csv")
    shallow = replace(times, rows=tuple(row for row in times.rows if row.network.name.endswith(("56", "40"))))
    errors = []
    for row in times.rows:
        if row not in shallow.rows:
            asked = (row.network, row.multiply_adds, row.batch_size)
            (measured, _), (scaled, is_scaled) = times.seconds_per_image(*asked), shallow.seconds_per_image(*asked)
            assert is_scaled
            errors.append(abs(scaled / measured - 1))
    assert errors
    page = (ROOT / "docs/scaling.md").read_text(encoding="utf-8")
    assert f"off by at most {math.ceil(100 * max(errors))} %" in " ".join(page.split())
