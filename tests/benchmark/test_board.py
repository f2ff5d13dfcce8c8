"""The live table of what runs where, and the lines that stand for it where there is no terminal."""

import io

import pytest
from rich.console import Console

from benchmark import board
from benchmark.board import Board, Place, Running

ROW = {"epoch": 3, "seconds": 2.0, "eval_error": 12.5}
NAME = "net:table=[/b].csv"


def show(act, terminal):
    out = io.StringIO()
    with Board(5, Console(file=out, force_terminal=terminal, width=200, color_system=None)) as shown:
        act(shown)
    return out.getvalue()


def running(shown, place, row=ROW):
    return Running(shown.heading(2, NAME), epochs=12, seconds=60.0, place=place, row=row)


@pytest.mark.parametrize("terminal", [False, True])
def test_ends_are_told_and_brackets_are_text(terminal):
    def act(shown):
        shown.skip(shown.heading(1, NAME), "done", "done already")
        shown.end(shown.heading(2, NAME), {"status": "failed", "reason": "cannot write /[/x]"})

    text = show(act, terminal)
    assert "[1/5] net:table=[/b].csv: done already" in text
    assert "[2/5] net:table=[/b].csv: failed: cannot write /[/x]" in text


def test_a_terminal_shows_a_table():
    def act(shown):
        shown.end(shown.heading(1, NAME), {"status": "done", "test_error": 1.0, "seconds": 3.0})
        shown.update([running(shown, Place("node1", "GPU 3"))], 2, 90.0)

    text = show(act, True)
    row = next(line for line in text.splitlines() if "GPU 3" in line)
    assert row.split() == ["[2/5]", "net:table=[/b].csv", "node1", "GPU", "3", "4/12", "12.50", "%", "16", "s"]
    assert "1 done, 1 running, 2 waiting; about 2 min left" in text


def test_without_a_terminal_places_are_told_once_and_sums_now_and_then(monkeypatch):
    monkeypatch.setattr(board, "LINE_EVERY_SECONDS", -1)

    def act(shown):
        for place in (None, Place("a", "GPU 0"), Place("a", "GPU 0"), Place("b", "GPU 1")):
            shown.update([running(shown, place)], 0, 16.0)

    lines = [line for line in show(act, False).splitlines() if line.startswith("[")]
    assert lines == [
        f"[2/5] {NAME}: on a, GPU 0",
        f"[2/5] {NAME}: its worker was lost; continues on b, GPU 1",
    ]
    assert show(act, False).count("    1 running; about 16 s left") == 4


def test_time_left_is_the_plans_until_an_epoch_is_measured():
    assert running(Board(5, Console(file=io.StringIO())), None, row=None).seconds_left == 60.0
    assert running(Board(5, Console(file=io.StringIO())), None).seconds_left == 8 * 2.0
