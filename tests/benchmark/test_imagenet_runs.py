"""The ImageNet experiment on small photographs: any folder runs, and what is wrong with one is said in one line."""

import json
import sys
from dataclasses import replace

import pytest
import torch

import benchmark.__main__ as cli
from benchmark import grid, machine, run
from benchmark.data import find_source
from benchmark.errors import UserError
from benchmark.experiments.imagenet import EXPERIMENT
from benchmark.ledger import RunFolder
from benchmark.specs import run_id
from datamodules import listing as listings
from lightning_modules.recipes import create_schedule
from tests.datamodules.photographs import write_photographs

CLASSES = tuple(f"class{i}" for i in range(6))
NETWORK = "cifar_resnet20:depth=8"


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    monkeypatch.setenv("OIN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("OIN_WORKERS", "0")
    find_source.cache_clear()


@pytest.fixture
def photographs(tmp_path):
    return write_photographs(tmp_path / "six", CLASSES, train=6, test=2)


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Exit code, output and errors of ``run imagenet`` in the smoke profile."""

    def call(*words):
        fixed = ["run", "imagenet", "--profile", "smoke", "--seeds", "0", "--device", "cpu", "--image-size", "16"]
        results = ["--results-dir", tmp_path / "results"]
        monkeypatch.setattr(sys, "argv", ["benchmark", *fixed, *map(str, [*results, *words])])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        find_source.cache_clear()
        return stop.value.code, capsys.readouterr()

    return call


def records(tmp_path):
    return {
        result["data"]["name"] if "data" in result else None: result
        for path in tmp_path.glob("results/runs/imagenet/*/result.json")
        if (result := json.loads(path.read_text()))
    }


def test_the_published_protocol():
    """RandomResizedCrop(224), batch 256, 90 epochs, rate 0.1 divided by 10 at epochs 30 and 60, momentum 0.9."""
    recipe = EXPERIMENT.profiles["paper"]
    assert (recipe.image_size, recipe.batch_size, recipe.epochs, recipe.momentum) == (224, 256, 90, 0.9)
    assert (recipe.learning_rate, recipe.weight_decay) == (0.1, 1e-4)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=recipe.learning_rate)
    fields = {"schedule": recipe.schedule, "epochs": recipe.epochs, "milestones": recipe.milestones}
    schedule = create_schedule(optimizer, fields, total_steps=90)["scheduler"]
    rates = []
    for _ in range(90):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([0.1] * 30 + [0.01] * 30 + [0.001] * 30)


def test_the_papers_rows_are_the_default():
    assert [cell.row for cell in EXPERIMENT.cells("paper")] == [
        "imagenet_resnet34",
        "imagenet_hbnet34",
        "imagenet_densenet121",
        "imagenet_agdnet121",
    ]
    assert {cell.row for cell in EXPERIMENT.cells("paper", only=["*50"])} == {
        "imagenet_resnet50",
        "imagenet_hbnet50",
    }


def test_any_folder_of_photographs(command, photographs, tmp_path):
    words = ("--network", NETWORK, "--data-dir", photographs)
    assert command(*words)[0] == command(*words, "--cache")[0] == 0
    found = records(tmp_path)
    assert set(found) == {"image folder six", "image folder six (pre-resized to 18)"}
    for result in found.values():
        assert result["status"] == "done"
        assert result["test_images"] == 12
        assert 0 <= result["test_top5_error"] <= result["test_error"] <= 100
        assert "names and sizes" in result["data"]["source"]
    code, (out, _) = command(*words)
    assert code == 0
    assert "done already" in out


def test_a_row_of_the_table(command, photographs, tmp_path):
    assert command("--only", "imagenet_hbnet18", "--data-dir", photographs)[0] == 0
    assert records(tmp_path)["image folder six"]["parameters"] > 10_000_000


def test_a_damaged_photograph_ends_its_run_and_is_named(command, photographs, tmp_path):
    for path in photographs.glob("train/class3/*"):
        path.write_bytes(path.read_bytes()[:-50])
    code, (_, err) = command("--network", NETWORK, "--data-dir", photographs)
    assert code == 1
    assert "train/class3/" in err.splitlines()[-1]
    (result,) = records(tmp_path).values()
    assert result["status"] == "failed"
    assert "is not a readable image" in result["reason"]


def spoil_classes(folder):
    (folder / "val" / "class5").rename(folder / "val" / "class6")


@pytest.mark.parametrize(
    ("spoil", "words", "message"),
    [
        (spoil_classes, [], "must be the same, and differ in class5, class6"),
        (lambda f: (f / "train/class0/0.JPEG").write_bytes(b""), [], "0.JPEG has 0 bytes"),
        (lambda f: (f / "train").rename(f / "training"), [], "has no train/ folder"),
        (lambda f: None, ["--image-size", "-3"], "image size -3 is not from 1 to 2,048 pixels"),
        (lambda f: None, ["--validation", "36"], "cannot hold out 36 of 36 training images"),
    ],
    ids=["classes differ", "an empty file", "no train", "image size", "validation"],
)
def test_mistakes(command, photographs, spoil, words, message):
    spoil(photographs)
    code, (_, err) = command("--network", NETWORK, "--data-dir", photographs, *words)
    assert code == 2
    assert len(err.splitlines()) == 1
    assert message in err


def test_a_part_of_imagenet_is_asked_for(command, tmp_path, monkeypatch):
    monkeypatch.setattr(listings, "CLASSES", 7)
    folder = write_photographs(tmp_path / "some", [f"n0000000{i}" for i in range(6)])
    words = ("--network", NETWORK, "--data-dir", folder)
    code, (_, err) = command(*words)
    assert code == 2
    assert "not all of ImageNet: it has 6 of 7 classes" in err
    assert command(*words, "--subset")[0] == 0
    assert set(records(tmp_path)) == {"subset of ImageNet, 36 images of 6 classes"}


@pytest.mark.parametrize("words", [["--cache"], ["--subset"], ["--image-size", "64"]], ids=" ".join)
def test_options_of_photographs_are_for_photographs(monkeypatch, capsys, words):
    monkeypatch.setattr(sys, "argv", ["benchmark", "plan", "quickstart", *words])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    assert "are for photographs; quickstart has none" in capsys.readouterr().err


def planned(photographs, **options):
    cells = grid.select_cells(
        EXPERIMENT, photographs, "cpu", "smoke", networks=[NETWORK], precision="32-true", **options
    )
    return cells[0][0]


def test_every_process_has_an_image_to_be_evaluated_on(photographs, monkeypatch):
    with pytest.raises(UserError, match="is evaluated on 4 images, fewer than 8 devices"):
        planned(photographs, devices=8, validation=4)
    assert planned(photographs, devices=4, validation=4).recipe.devices == 4
    monkeypatch.setattr(grid, "find_source", lambda *words: replace(find_source(*words), num_test=2))
    with pytest.raises(UserError, match="is evaluated on 2 images, fewer than 4 devices"):
        planned(photographs, devices=4, validation=4)


def test_what_is_read_is_part_of_the_id(photographs):
    cells = [
        planned(photographs),
        planned(photographs, image_size=32),
        planned(photographs, resized=True),
        planned(photographs, image_size=32, resized=True),
    ]
    assert len({run_id(cell, 0) for cell in cells}) == 4


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_resumed_run_is_an_uninterrupted_one(photographs, tmp_path, monkeypatch, workers):
    """Stopped in its last epoch and continued with other workers: the same metrics and weights, bit for bit."""
    cell = planned(photographs, image_size=16)
    cell = replace(cell, recipe=replace(cell.recipe, epochs=3, batch_size=10))
    whole, parts = (RunFolder(tmp_path / name, cell, 0) for name in ("whole", "parts"))
    run.execute(whole, photographs, "cpu", lambda row: None)

    def stop(row):
        if row["epoch"] == 1:
            raise KeyboardInterrupt

    with pytest.raises(run.InterruptedRun):
        run.execute(parts, photographs, "cpu", stop)
    monkeypatch.setenv("OIN_WORKERS", workers)
    assert run.execute(parts, photographs, "cpu", lambda row: None)["status"] == "done"
    times = ("seconds", "train_seconds", "joules")
    metrics = [
        [{k: v for k, v in row.items() if k not in times} for row in folder.read_metrics()]
        for folder in (whole, parts)
    ]
    assert metrics[0] == metrics[1]
    one, other = (
        torch.load(folder.checkpoints / "epoch-0002.ckpt", weights_only=True)["state_dict"]
        for folder in (whole, parts)
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
@pytest.mark.skipif(machine.count_devices("cpu") < 2, reason="needs two cores")
def test_processes_that_share_a_run_read_with_workers_of_their_own(command, photographs, tmp_path, monkeypatch):
    monkeypatch.setenv("OIN_WORKERS", "1")
    code, (_, err) = command("--data-dir", photographs, "--network", NETWORK, "--devices", 2)
    assert (code, err) == (0, "")
    (result,) = records(tmp_path).values()
    assert (result["status"], result["spec"]["recipe"]["devices"]) == ("done", 2)
    assert result["test_images"] == 12
