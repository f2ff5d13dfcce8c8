"""Every command's help shows examples, and each of them parses as that command."""

import shlex
from typing import get_args

import pytest

from benchmark.__main__ import _parse
from benchmark.commands import Command
from benchmark.completion import subcommand_name
from benchmark.examples import EXAMPLES, PROGRAM
from benchmark.experiments import get_experiment

COMMANDS = {subcommand_name(command): command for command in get_args(Command)}
LINES = [(name, line) for name, lines in EXAMPLES.items() for line in lines]


def shown_examples(name, capsys):
    with pytest.raises(SystemExit) as stop:
        _parse([name, "--help"])
    assert not stop.value.code
    _, _, below = capsys.readouterr().out.partition("\nexamples:\n")
    return [line.strip() for line in below.splitlines()]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_one_to_three_examples(name, capsys):
    shown = shown_examples(name, capsys)
    assert 1 <= len(shown) <= 3
    assert all(line.startswith(f"{PROGRAM} {name}") for line in shown)


@pytest.mark.parametrize(("name", "line"), LINES, ids=[line for _, line in LINES])
def test_examples_parse(name, line):
    words = shlex.split(line, comments=True)
    command = _parse(words[: words.index(">")] if ">" in words else words)
    assert isinstance(command, COMMANDS[name])
    if getattr(command, "experiment", None):
        get_experiment(command.experiment)


def test_help_on_the_whole_shows_none(capsys):
    with pytest.raises(SystemExit):
        _parse(["--help"])
    assert "examples:" not in capsys.readouterr().out
