"""Several processes train as one does, and one that dies is named."""

import json
import multiprocessing
import os
import signal
import time
from dataclasses import replace

import pytest
import torch

from benchmark import grid, parallel
from benchmark.errors import UserError
from benchmark.experiments import get_experiment
from benchmark.group import AgreedError, Group, GroupError
from benchmark.ledger import RunFolder
from benchmark.trainer import create_trainer
from lightning_modules.classifier import DivergedError

EPOCHS = 3
CLOCK = ("seconds", "train_seconds")


def cell_of(devices, data_dir, epochs=EPOCHS):
    """A network without batch norm at a rate at which rounding does not grow."""
    ((cell, _),) = grid.select_cells(
        get_experiment("quickstart"),
        data_dir,
        "cpu",
        networks=["feedforward:depth=4"],
        precision="32-true",
        devices=devices,
    )
    return replace(cell, recipe=replace(cell.recipe, learning_rate=0.01, epochs=epochs))


def train(cell, devices, results):
    folder, rows = RunFolder(results, cell, 0), []
    with parallel.open_group(None, devices, 1, "cpu") as (device, execute):
        return execute(folder, results, device, rows.append), rows, folder


def test_two_processes_train_as_one_does(tmp_path):
    """1,297 images in batches of 64: the last has 17, in parts of 9 and 8."""
    one, rows_of_one, _ = train(cell_of(1, tmp_path), 1, tmp_path)
    two, rows_of_two, folder = train(cell_of(2, tmp_path), 2, tmp_path)
    assert (one["status"], two["status"]) == ("done", "done")
    assert one["run_id"] != two["run_id"]
    assert two["spec"]["recipe"]["devices"] == 2
    processor, _threads = one["device"].rsplit(", ", 1)
    assert two["device"].startswith(f"{processor}, 2 processes of ")
    assert len(rows_of_two) == EPOCHS
    for ours, theirs in zip(rows_of_two, rows_of_one, strict=True):
        for name in ours.keys() - set(CLOCK):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-4), name
    assert rows_of_two[-1]["train_loss"] < 0.8 * rows_of_two[0]["train_loss"]
    assert two["data"] == one["data"]
    for name in ("test_error", "test_top5_error", "test_loss", "parameters", "epochs", "test_images"):
        assert two[name] == pytest.approx(one[name], rel=1e-4), name
    for layer, norms in two["gradient_norms"].items():
        assert norms == pytest.approx(one["gradient_norms"][layer], rel=1e-3)
    assert folder.read_metrics() == [pytest.approx(row) for row in rows_of_two]
    assert [p.name for p in folder.checkpoints.iterdir()] == [f"epoch-{EPOCHS - 1:04d}.ckpt"]
    assert json.loads((folder.path / "result.json").read_text()) == two
    assert not multiprocessing.active_children()


def send_and_end(sender, messages, end):
    for delay, message in messages:
        time.sleep(delay)
        sender.send(message)
    end()


def attend(*lives):
    """What is made of processes that send these messages (after seconds) and end so."""
    context, members = multiprocessing.get_context("fork"), []
    for rank, (messages, end) in enumerate(lives):
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=send_and_end, args=(sender, messages, end))
        process.start()
        sender.close()
        members.append(parallel._Member(f"process {rank} of {len(lives)}", process, receiver))
    rows = []
    try:
        return parallel._attend(members, rows.append), rows
    finally:
        for member in members:
            member.process.kill()
            member.process.join()


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def leave(code=0):
    os._exit(code)


def hang():
    time.sleep(600)


def failure(error, moment=0.0):
    return 0, ("failure", (time.monotonic() + moment, error))


LOST = GroupError("process 0 of 2 lost another one, which ended; the launcher knows why")


def test_rows_and_values_come_from_the_leader():
    row, values = (0, ("row", {"epoch": 0})), (0, ("values", {"test_error": 1.0}))
    assert attend(([row, values], leave), ([(0, ("values", {}))], leave)) == ({"test_error": 1.0}, [{"epoch": 0}])


@pytest.mark.parametrize(
    ("lives", "reason"),
    [
        ([([failure(LOST)], leave), ([], die)], "process 1 of 2 ended with signal 9 (SIGKILL)"),
        ([([], die), ([failure(LOST)], leave)], "process 0 of 2 ended with signal 9 (SIGKILL)"),
        ([([], hang), ([], die)], "process 1 of 2 ended with signal 9 (SIGKILL)"),
        ([([], hang), ([], lambda: leave(3))], "process 1 of 2 ended with exit status 3"),
        (
            [([failure(LOST, moment=1)], leave), ([failure(GroupError("process 1 of 2: no memory"))], leave)],
            "process 1 of 2: no memory",
        ),
        ([([(0, ("values", {}))], leave), ([(0, ("values", {}))], leave)], "the processes ended without a result"),
    ],
    ids=["killed", "leader killed", "the other hangs", "exits", "fails first", "without a result"],
)
def test_the_cause_is_named(monkeypatch, lives, reason):
    monkeypatch.setattr(parallel, "GRACE_SECONDS", 1)
    with pytest.raises(GroupError) as error:
        attend(*lives)
    assert str(error.value) == reason


def test_a_loss_that_is_not_finite_is_that_of_the_run():
    error = DivergedError("loss is nan in epoch 1, batch 0")
    with pytest.raises(DivergedError, match="epoch 1, batch 0"):
        attend(([failure(error)], leave), ([failure(error)], leave))


def test_what_a_leader_cannot_do_is_agreed_on(monkeypatch):
    class Two(Group):
        size = 2

        def broadcast(self, value=None):
            return value

    def fail():
        raise RuntimeError("no checkpoint")

    with pytest.raises(AgreedError, match=r"^RuntimeError: no checkpoint$"):
        Two().decide(fail)
    with pytest.raises(RuntimeError):
        Group().decide(fail)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"devices": 3}, "batch size 64 is not divisible by 3 processes; take another number of --devices"),
        ({"devices": 2, "validation": 1296 - 64}, "the last batch of 65 images has 1, fewer than the 2 processes"),
        ({"devices": 2, "sync_batchnorm": True}, "--sync-batchnorm needs several GPUs"),
    ],
    ids=str,
)
def test_batches_that_cannot_be_shared(tmp_path, options, part):
    with pytest.raises(UserError, match=part):
        grid.select_cells(get_experiment("quickstart"), tmp_path, "cpu", **options)


def test_the_usual_loop_has_one_device(tmp_path):
    with pytest.raises(UserError, match=r"reference@cifar10.* is trained by the usual loop, which has one device"):
        grid.select_cells(get_experiment("cifar"), tmp_path, "cpu", only=["*reference"], devices=2)


def test_more_processes_than_cores():
    cores = os.cpu_count()
    with pytest.raises(UserError, match=f"--devices {cores + 1} asks for more than the {cores} CPU core"):
        parallel.check_devices("cpu", cores + 1)


def test_more_gpus_than_there_are(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match="--devices 8 asks for more than the 1 GPU of this machine"):
        parallel.check_devices("cuda", 8)


def test_no_process_of_a_group_asks_the_others_before_each_batch(monkeypatch, tmp_path):
    """Lightning does, and its answer waits for the device."""
    asked = []
    monkeypatch.setattr(torch.distributed, "broadcast", lambda *words, **options: asked.append(words))
    recipe = cell_of(2, tmp_path).recipe
    for group in (Group(), Group(devices=2)):
        create_trainer(recipe, "cpu", tmp_path, [], group).fit_loop.epoch_loop._broadcast_sigterm_tensor()
        assert len(asked) == 1, "Lightning asks, alone, where nothing calls it"
