"""The completion script in a real bash, and its options against what the command line really takes."""

import re
import shutil
import subprocess
from typing import get_args

import pytest

from benchmark.__main__ import _parse
from benchmark.commands import Command
from benchmark.completion import completion_script
from benchmark.experiments import EXPERIMENTS

NETWORKS = ["cifar_hbnet20", "cifar_hbnet56", "cifar_resnet20"]
needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")


def script(shell="bash"):
    return completion_script(shell, get_args(Command), EXPERIMENTS.values(), NETWORKS)


@pytest.fixture
def complete(tmp_path):
    """What bash offers for the last of the words."""
    (tmp_path / "completion").write_text(script())
    (tmp_path / "a folder").mkdir()

    def offered(*words):
        ask = 'source completion; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _oin; printf "%s\\n" "${COMPREPLY[@]}"'
        done = subprocess.run(
            ["bash", "-uc", ask, "bash", "oin", *words], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        assert not done.stderr
        return done.stdout.split("\n")[:-1] if done.stdout != "\n" else []

    return offered


@needs_bash
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["ru"], ["run"]),
        (["run", "ci"], ["cifar"]),
        (["run", "cifar", "ci"], []),
        (["run", "cifar", "--prof"], ["--profile"]),
        (["run", "cifar", "--profile", ""], ["paper", "short", "quick", "smoke"]),
        (["run", "quickstart", "--profile", ""], ["short", "smoke"]),
        (["run", "--profile", "sh"], ["short"]),
        (["run", "--profile", "short", "q"], ["quickstart"]),
        (["run", "--yes", "q"], ["quickstart"]),
        (["run", "quickstart", "--only", "res"], ["resnet14"]),
        (["run", "cifar", "--dataset", "cifar10", "cifar100"], ["cifar100", "cifar100+"]),
        (["plan", "cifar", "--network", "cifar_resnet20", "cifar_hb"], ["cifar_hbnet20", "cifar_hbnet56"]),
        (["plan", "cifar", "--step-times", "a"], ["a folder"]),
        (["show", "cifar_res"], ["cifar_resnet20"]),
        (["speed", "--only", ""], []),
        (["tables", "quick"], ["quickstart"]),
        (["compare", "a"], ["a folder"]),
        (["compare", "a", "b", "--experiment", "ci"], ["cifar"]),
        (["verify-paper", "--w"], ["--write"]),
        (["completion", "z"], ["zsh"]),
        (["walk", "x"], []),
    ],
    ids=" ".join,
)
def test_what_bash_offers(complete, words, offered):
    assert complete(*words) == offered


@needs_bash
@pytest.mark.parametrize(
    "name", ["plan", "run", "tables", "compare", "speed", "theory", "verify-paper", "list", "show"]
)
def test_every_option_of_the_help_is_offered_and_no_other(complete, name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    with pytest.raises(SystemExit):
        _parse([name, "--help"])
    options, _, _ = capsys.readouterr().out.partition("examples:")
    assert set(complete(name, "-")) == set(re.findall(r"^\W*(?:h, )?(--[a-z][a-z-]+)", options, re.MULTILINE))


def test_zsh_reads_the_same_script():
    assert script("zsh").endswith(script("bash"))
    assert "bashcompinit" in script("zsh")
