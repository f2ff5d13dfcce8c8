"""What a grid costs on paper: by times measured here or kept from another device, on one device or many."""

import csv
import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pandas as pd
import pytest

from benchmark import step_times
from benchmark.errors import UserError
from benchmark.experiments import get_experiment
from benchmark.ledger import write_atomically
from benchmark.specs import NetworkSpec
from benchmark.step_times import StepTime, add_step_times, read_step_times

HEADER = "network,precision,compile,batch size,ours ms\n"
DIGITS = ["plan", "quickstart", "--profile", "smoke", "--device", "cpu", "--only", "resnet14"]
CIFAR = ["plan", "cifar", "--profile", "short", "--device", "cpu", "--dataset", "cifar10+"]
EPOCHS, IMAGES = 15, 50_000 + 10_000 / 3
"""Of the short profile; an evaluated image costs a third of a trained one."""
ORIGIN = {"device": "CPU: abacus", "torch": "2.9", "commit": "0123456"}


@pytest.fixture
def plan(monkeypatch, capsys, tmp_path):
    """Exit code, output and error of a command on an empty results directory."""
    import benchmark.__main__ as cli

    def run(*words):
        monkeypatch.setenv("COLUMNS", "120")
        words = map(str, [*words, "--results-dir", tmp_path / "results"])
        monkeypatch.setattr(sys, "argv", ["benchmark", *words])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return stop.value.code or 0, *capsys.readouterr()

    return run


@pytest.fixture
def table(tmp_path):
    def write(*lines):
        path = tmp_path / "times.csv"
        path.write_text(HEADER + "\n".join(lines) + "\n")
        return path

    return write


def step_ms(found, batch_size):
    return 1000 * batch_size * found[0]


def test_a_step_is_looked_up_or_scaled_from_the_nearest_of_its_kind(table):
    times = read_step_times(
        table(
            "cifar_resnet20,bf16-mixed,off,128,140",
            "cifar_resnet56,bf16-mixed,off,128,360",
            "cifar_hbnet56,bf16-mixed,off,128,400",
            "cifar_hbnet56:coefficients=fixed,bf16-mixed,off,128,390",
        )
    )
    small, large = times.rows[0].multiply_adds, times.rows[1].multiply_adds
    exact, is_scaled = times.seconds_per_image(NetworkSpec("cifar_resnet20"), small, 128)
    assert (128 * exact, is_scaled) == (pytest.approx(0.14), False)
    twice = times.seconds_per_image(NetworkSpec("cifar_resnet110"), 2 * large, 128)
    assert (step_ms(twice, 128), twice[1]) == (pytest.approx(720), True)
    same = times.seconds_per_image(NetworkSpec("cifar_resnet20", {"depth": 56, "dropout": 0.2}), large, 128)
    assert (step_ms(same, 128), same[1]) == (pytest.approx(360), False)
    fixed = times.seconds_per_image(NetworkSpec("cifar_hbnet56", {"coefficients": "fixed"}), large, 128)
    assert (step_ms(fixed, 128), fixed[1]) == (pytest.approx(390), False)
    with pytest.raises(UserError, match=r"no step of cifar_resnet20 with a batch of 64"):
        times.seconds_per_image(NetworkSpec("cifar_resnet20"), small, 64)
    with pytest.raises(UserError, match=r"no step of cifar_resnet20 \(reading=fixed_point\)"):
        times.seconds_per_image(NetworkSpec("cifar_resnet20", {"reading": "fixed_point"}), small, 128)


def test_dropout_costs_nothing_unless_it_keeps_a_network_from_being_captured(table):
    lean = "cifar_densenet40:memory_efficient=True"
    times = read_step_times(
        table("cifar_densenet40,bf16-mixed,graphs,128,100", f"{lean},bf16-mixed,graphs,128,130")
    )
    multiply_adds, dropout = times.rows[0].multiply_adds, {"dropout": 0.2}
    same = times.seconds_per_image(NetworkSpec("cifar_densenet40", dropout), multiply_adds, 128)
    assert (step_ms(same, 128), same[1]) == (pytest.approx(100), False)
    with pytest.raises(UserError, match=r"no step of cifar_densenet40 \(memory_efficient=True,dropout=0.2\)"):
        times.seconds_per_image(
            NetworkSpec("cifar_densenet40", {"memory_efficient": True, **dropout}), multiply_adds, 128
        )


def test_of_one_network_the_fastest_counts_that_a_run_could_take(table):
    path = table(
        "cifar_resnet20,bf16-mixed,compiled-graphs,128,100",
        "cifar_resnet20,bf16-mixed,reduce-overhead,128,110",
        "cifar_resnet20,bf16-mixed,graphs,128,120",
        "cifar_resnet20,bf16-mixed,default,128,140",
        "cifar_resnet20,32-true,default,128,180",
        "cifar_resnet20,32-true,off,128,200",
    )
    for precision, ms in (("auto", 120), ("bf16-mixed", 120), ("32-true", 180)):
        times = read_step_times(path, precision)
        multiply_adds = times.rows[0].multiply_adds
        found = times.seconds_per_image(NetworkSpec("cifar_resnet20"), multiply_adds, 128)
        assert step_ms(found, 128) == pytest.approx(ms)


@pytest.mark.parametrize(("name", "ms"), [("speed-cpu-one-loops.csv", 200), ("speed-gpu-one-loops.csv", 140)])
def test_compiled_steps_count_where_auto_compiles(table, tmp_path, name, ms):
    path = table("cifar_resnet20,bf16-mixed,off,128,200", "cifar_resnet20,bf16-mixed,default,128,140")
    times = read_step_times(path.rename(tmp_path / name))
    found = times.seconds_per_image(NetworkSpec("cifar_resnet20"), times.rows[0].multiply_adds, 128)
    assert step_ms(found, 128) == pytest.approx(ms)


def test_a_plan_by_a_speed_table(plan, table):
    """A millisecond an image."""
    path = table("cifar_resnet20,bf16-mixed,off,128,128", "cifar_hbnet56,bf16-mixed,off,128,400")
    code, out, err = plan(*CIFAR, "--seeds", 0, 1, 2, "--only", "cifar_resnet20", "--step-times", path)
    assert code == 0, err
    minutes = 3 * EPOCHS * IMAGES * 0.001 / 60
    assert f"3 runs on CIFAR-10, 0 done; about {minutes:.0f} min left on one device of {path}." in out
    assert "≈" not in out
    _, scaled, _ = plan(*CIFAR, "--only", "cifar_hbnet20", "--step-times", path)
    assert re.search(r"HB-Net-20 .* ≈ \d", scaled)
    assert "≈ is not measured there, but scaled by multiply-adds" in scaled


def test_a_plan_on_several_devices(plan, table):
    path = table("cifar_resnet20,bf16-mixed,off,128,128")
    words = [*CIFAR, "--only", "cifar_resnet20", "--step-times", path, "--seeds", *range(4)]
    code, out, err = plan(*words, "--devices", 1, 3, 4, 1000, "--price", 2.5)
    assert code == 0, err
    hours = EPOCHS * IMAGES * 0.001 / 3600
    shown = [line.split() for line in out.splitlines() if re.match(r" +[\d,]+ +[\d.]+ (h|min) ", line)]
    assert [line[0] for line in shown] == ["1", "3", "4", "1,000"]
    text = " ".join(out.split())
    for devices, spans, speed_up, idle, limit in (
        ("1", 4, "1.0", "0.0", "the total work"),
        ("3", 2, "2.0", "33.3", "whole runs do not divide evenly"),
        ("4", 1, "4.0", "0.0", "the longest run"),
        ("1,000", 1, "4.0", "99.6", "the longest run"),
    ):
        span = spans * hours
        makespan = f"{span:.1f} h" if span >= 1.5 else f"{60 * span:.0f} min"
        held = int(devices.replace(",", "")) * span
        line = f"{devices} {makespan} {speed_up} {idle} % {held:,.1f} {2.5 * held:,.2f} {limit}"
        assert line in text
    assert "with 4 or more devices" in text


def test_nothing_is_priced_or_scheduled_unasked(plan, table):
    path = table("cifar_resnet20,bf16-mixed,off,128,128")
    _, out, _ = plan(*CIFAR, "--only", "cifar_resnet20", "--step-times", path, "--devices", 2)
    assert "cost" not in out
    _, out, _ = plan(*CIFAR, "--only", "cifar_resnet20", "--step-times", path)
    assert "makespan" not in out


def test_measured_steps_are_saved_and_planned_by(plan, tmp_path):
    path = tmp_path / "new" / "times.csv"
    for calls in (1, 2):
        code, out, err = plan(*DIGITS, "--save-step-times", path, "--devices", 2)
        assert code == 0, err
        assert "makespan" in out
        assert out.endswith(f"added 1 step times to {path}\n")
        with path.open() as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == calls
    assert {row["device"] for row in rows} == {rows[0]["device"]}
    assert "CPU" in rows[0]["device"]
    (first, second) = read_step_times(path).rows
    assert first.seconds > 0
    found = read_step_times(path).seconds_per_image(first.network, first.multiply_adds, first.batch_size)
    assert found[0] * first.batch_size == pytest.approx(min(first.seconds, second.seconds))
    code, out, err = plan(*DIGITS, "--step-times", path)
    assert code == 0, err
    assert f"left on one device of {path}." in out
    assert "≈" not in out


def test_the_usual_loop_is_measured_for_itself_and_not_kept_as_a_step_of_ours(plan, tmp_path, monkeypatch):
    """It has ResNet-20's network, but neither its precision nor its loop."""
    measured = []

    def seconds_per_image(cell, *_):
        measured.append((cell.row, cell.recipe.precision))
        return 0.001

    monkeypatch.setattr("benchmark.estimate.seconds_per_image", seconds_per_image)
    path = tmp_path / "times.csv"
    settings = ["--precision", "bf16-mixed", "--save-step-times", path]
    code, _, err = plan(*CIFAR, "--only", "cifar_resnet20*", "--seeds", 0, 1, *settings)
    assert code == 0, err
    assert measured == [("cifar_resnet20", "bf16-mixed"), ("cifar_resnet20-reference", "32-true")]
    assert [row.precision for row in read_step_times(path).rows] == ["bf16-mixed"]


def test_options_of_any_kind_survive_the_table(tmp_path):
    options = {"method": "step_table", "table": [[1.0], [0.25, 1.25]], "reading": "residual"}
    path = tmp_path / "times.csv"
    step = StepTime(NetworkSpec("cifar_resnet20", options), 123, 64, "32-true", 0.5)
    add_step_times(path, [step], ORIGIN)
    assert read_step_times(path).rows == (step,)


def test_times_of_an_older_definition_are_kept_and_not_planned_with(tmp_path):
    """A table from before AGD-Net's default changed does not say which AGD-Net a bare name is."""
    named = NetworkSpec("cifar_agdnet40", {"reading": "residual", "coefficients": "learned"})
    bare = NetworkSpec("cifar_agdnet40", definition=2)
    steps = [StepTime(named, 123, 64, "32-true", 0.5), StepTime(bare, 123, 64, "32-true", 0.4)]
    path = tmp_path / "times.csv"
    add_step_times(path, steps, ORIGIN)
    assert read_step_times(path).rows == tuple(steps)
    pd.read_csv(path).drop(columns="definition").to_csv(path, index=False)
    older = read_step_times(path)
    assert older.seconds_per_image(named, 123, 64) == (0.5 / 64, False)
    with pytest.raises(UserError, match=r"has no step of cifar_agdnet40 \(definition 2\) with a batch of 64"):
        older.seconds_per_image(bare, 123, 64)
    add_step_times(path, [replace(steps[1], seconds=0.3)], ORIGIN)
    assert read_step_times(path).seconds_per_image(bare, 123, 64) == (0.3 / 64, False)
    assert pd.read_csv(path)["ms"].tolist() == [500, 400, 300]
    path.write_text(path.read_text().replace(",2,123", ",2.0,123"))
    assert read_step_times(path).seconds_per_image(bare, 123, 64) == (0.3 / 64, False)
    path.write_text(path.read_text().replace(",2.0,123", ",two,123"))
    with pytest.raises(UserError, match="line 4, is not a step time: could not convert"):
        read_step_times(path)
    with pytest.raises(UserError, match="cannot be added to: could not convert"):
        add_step_times(path, steps, ORIGIN)


def test_commands_that_add_to_one_table_at_once_lose_nothing(tmp_path, monkeypatch):
    def write_late(path, text):
        time.sleep(0.05)
        write_atomically(path, text)

    monkeypatch.setattr(step_times, "write_atomically", write_late)
    steps = [StepTime(NetworkSpec(f"cifar_resnet{depth}"), 123, 64, "32-true", 0.5) for depth in (20, 32, 44, 56)]
    with ThreadPoolExecutor(len(steps)) as pool:
        list(pool.map(lambda step: add_step_times(tmp_path / "times.csv", [step], ORIGIN), steps))
    assert set(pd.read_csv(tmp_path / "times.csv")["network"]) == {step.network.name for step in steps}
    with pytest.raises(UserError, match="cannot write"):
        add_step_times(tmp_path / "times.csv" / "below.csv", steps, ORIGIN)


def test_no_table_is_overwritten(plan, tmp_path):
    path = tmp_path / "times.csv"
    add_step_times(path, [StepTime(NetworkSpec("cifar_resnet20"), 123, 64, "32-true", 0.5)], ORIGIN)
    notes = tmp_path / "notes.txt"
    notes.write_text("a line of mine\n")
    for file, part in ((path, "is of CPU: abacus, not of"), (notes, "is not a table of plan --save-step-times")):
        before = file.read_bytes()
        code, out, err = plan(*DIGITS, "--save-step-times", file)
        assert (code, out) == (2, "")
        assert part in err
        assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--devices", "0"], "count '0' is not a positive integer below 10^9; write e.g. --devices 1 8 64"),
        (["--devices", "1e3"], "count '1e3' is not a positive integer"),
        (["--devices", "9" * 5000], "is not a positive integer below 10^9"),
        (["--price", "2"], "--price needs --devices N ..."),
        (["--devices", "2", "--price", "-1"], "--price is -1.0; it must be 0 or more"),
        (["--devices", "2", "--price", "nan"], "--price is nan; it must be 0 or more"),
        (["--devices", "2", "--price", "two"], "two"),
        (["--step-times", "nowhere.csv"], "step times nowhere.csv cannot be read: No such file or directory"),
        (["--step-times", "a.csv", "--save-step-times", "b.csv"], "leave out one of them"),
        (["--step-times", "a.csv", "--compile", "off"], "does not say how they were compiled; leave out --compile"),
    ],
    ids=str,
)
def test_mistakes(plan, words, part):
    code, out, err = plan(*DIGITS, *words)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert part in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "has no step times"),
        (HEADER, "has no step times"),
        (HEADER + "cifar_resnet20,bf16-mixed,off,128,-1\n", "line 2, is not a step time: -1 ms"),
        (HEADER + "cifar_resnet20,bf16-mixed,off,128,nan\n", "line 2, is not a step time: nan ms"),
        (HEADER + "cifar_resnet20,bf16-mixed,off\n", "line 2, is not a step time"),
        (HEADER + "cifar_resnet21,bf16-mixed,off,128,1\n", "line 2, is not a step time"),
        ("network,batch size\ncifar_resnet20,128\n", "line 2, is not a step time: no column 'ms'"),
        ("method,factor\nheavy_ball,0.5\n", "line 2, is not a step time: no column 'network'"),
        ("\0\n\0\n", "times.csv"),
    ],
    ids=repr,
)
def test_tables_that_are_none(plan, tmp_path, text, part):
    path = tmp_path / "times.csv"
    path.write_text(text)
    code, out, err = plan(*DIGITS, "--step-times", path)
    assert (code, out) == (2, "")
    assert part in err
    assert err.count("\n") == 1


def test_a_precision_that_was_not_measured(plan, table):
    path = table("cifar_resnet20,bf16-mixed,off,128,128")
    code, _, err = plan(*CIFAR, "--only", "cifar_resnet20", "--step-times", path, "--precision", "32-true")
    assert code == 2
    assert "has no step times in 32-true" in err


@pytest.mark.parametrize(("experiment", "evaluated"), [("cifar", 1_000), ("imagenet", 256)])
def test_two_batches_of_the_smoke_profile_are_estimated_as_such(experiment, evaluated):
    """Evaluated in batches of 500 of CIFAR's images and of 128 photographs."""
    from benchmark import estimate
    from benchmark.data import Source

    cell = get_experiment(experiment).cells("smoke")[0]
    source = Source("", "", "", num_classes=10, image_shape=(3, 32, 32), num_train=50_000, num_test=10_000)
    recipe = cell.recipe
    images = recipe.limit_batches * recipe.batch_size + evaluated / 3
    assert estimate.seconds_per_run(cell, source, 1.0) == pytest.approx(recipe.epochs * images)


def test_one_thread_is_timed_by_what_it_works_and_more_by_the_clock_on_the_wall(monkeypatch):
    """A wait, as for a processor that is busy elsewhere, is no work."""
    import torch

    from benchmark import estimate

    def wait_and_step(*args):
        time.sleep(0.3)

    cell = get_experiment("quickstart").cells("smoke", only=["resnet14"])[0]
    cell = replace(cell, recipe=replace(cell.recipe, precision="32-true", compile=False, batch_size=2))
    monkeypatch.setattr(torch.optim.SGD, "step", wait_and_step)
    waits = {}
    for threads in (1, 2):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        waits[threads] = 2 * estimate.seconds_per_image(cell, 10, (1, 8, 8), "cpu")
    assert waits[1] < 0.3 <= waits[2]
