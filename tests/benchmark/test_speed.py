"""``speed`` measures what it says: every loop trains, turns are counted, tables follow from the rows."""

import itertools
import sys
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace

import pandas as pd
import pytest
import torch

import benchmark.__main__ as cli
from benchmark import machine
from benchmark.errors import UserError
from benchmark.speed import loops, measure, processes, suite
from benchmark.speed.loops import bare_loop, reference_loop, torchvision_loop
from lightning_modules.networks import list_networks

TINY = suite.Settings("cpu", "32-true", "off", batch_size=8, blocks=2, steps=3)
NETWORK = "cifar_hbnet20:depth=8"


def run(monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["benchmark", "speed", "--device", "cpu", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return stop.value.code, capsys.readouterr()


def in_this_process(measure, *arguments):
    return measure(*arguments)


def test_tables_and_chart(monkeypatch, capsys, tmp_path):
    peaks = {"ours": 2_000_000, "reference": 3_000_000, "bare": 5_000_000}
    for module in (suite, processes):
        monkeypatch.setattr(module, "in_its_own_process", in_this_process)
        monkeypatch.setattr(module, "peak_memory", lambda task, loop: (peaks[loop], 1_000_000))
    monkeypatch.setattr(suite, "time_processes", lambda task, count, steps: 0.01)
    monkeypatch.setattr(suite, "NETWORKS", (NETWORK,))
    monkeypatch.setattr(suite, "PACKED", (NETWORK,))
    monkeypatch.setattr(suite, "STRUCTURES", {"cifar_resnet20:depth=8": (NETWORK,)})
    code, (out, _) = run(
        monkeypatch,
        capsys,
        *("--blocks", 1, "--steps", 2, "--batch-size", 8, "--pack", 1, "--results-dir", tmp_path),
    )
    assert code == 0
    photographs, loops, packed, structures = (
        pd.read_csv(path) for path in sorted(tmp_path.glob("tables/speed-cpu-*.csv"))
    )
    assert loops["network"].tolist() == structures["network"].tolist() == [NETWORK]
    row = loops.iloc[0]
    assert row["ours vs reference"] == pytest.approx(row["reference ms"] / row["ours ms"], rel=1e-3)
    assert row["images/s"] == pytest.approx(8000 / row["ours ms"], rel=1e-3)
    assert (loops[[f"{phase} ms" for phase in measure.PHASES]] > 0).all(axis=None)
    assert (row["ours peak bytes"], row["reference peak bytes"]) == (2_000_000, 3_000_000)
    assert row["ours idle bytes"] == row["reference idle bytes"] == 1_000_000
    assert structures.iloc[0]["memory bytes"] == 4_000_000
    assert structures.iloc[0]["baseline"] == "cifar_resnet20:depth=8"
    assert (structures[["time ratio", "memory ratio"]] > 0).all(axis=None)
    assert structures.iloc[0]["time ratio"] == pytest.approx(
        structures.iloc[0]["ms"] / structures.iloc[0]["baseline ms"], rel=1e-3
    )
    assert packed["way"].tolist() == ["processes", "stacked"]
    assert packed["images/s"].tolist() == pytest.approx((8000 / packed["ms"]).tolist(), rel=1e-3)
    assert photographs["from"].tolist() == ["files", "resized cache"]
    texts = sorted(tmp_path.glob("tables/speed-cpu-*.md"))
    assert [text.read_text().splitlines()[0] for text in texts] == [
        "# Speed of the input path",
        "# Speed of a training step",
    ]
    assert all(str(text) in out for text in texts)
    assert {path.suffix for path in tmp_path.glob("plots/*")} == {".svg", ".png"}


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
            "does not fit in memory at batch 8 (CUDA out of memory)",
        ),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory. Error code 12"),
            "does not fit in memory at batch 8 (DefaultCPUAllocator: can't allocate memory)",
        ),
        (
            BrokenProcessPool("A process was terminated."),
            "ended the process that measured it, perhaps for want of memory at batch 8 (A process was terminated.)",
        ),
    ],
    ids=["GPU", "CPU", "killed"],
)
def test_what_was_measured_is_kept_when_another_network_does_not_fit(monkeypatch, capsys, tmp_path, error, reason):
    large = "cifar_resnet20:depth=8"
    measured = suite.time_network

    def time_network(task, *arguments):
        if task.network.name == "cifar_resnet20":
            raise error
        return measured(task, *arguments)

    monkeypatch.setattr(suite, "time_network", time_network)
    monkeypatch.setattr(processes, "in_its_own_process", in_this_process)
    monkeypatch.setattr(suite, "in_its_own_process", lambda measure, task, loop: None)
    monkeypatch.setattr(suite, "NETWORKS", (NETWORK, large))
    words = ("--blocks", 1, "--steps", 1, "--batch-size", 8, "--results-dir", tmp_path)
    code, (_, err) = run(monkeypatch, capsys, *words)
    assert code == 2
    assert err.splitlines() == [
        f"error: {large} {reason}; lower --batch-size or leave it out by --only; what was measured before is kept"
    ]
    (path,) = tmp_path.glob("tables/*-loops.csv")
    assert pd.read_csv(path)["network"].tolist() == [NETWORK]


@pytest.mark.parametrize("batch_size", [8, 1000, 8192])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_no_epoch_ends_within_a_measurement(batch_size, device):
    settings = suite.Settings(device, "32-true", "off", batch_size, blocks=10, steps=5)
    task = settings.task(NETWORK)
    assert task.images % batch_size == 0
    assert task.images // batch_size > measure.steps_within(device, 10, 5)
    assert task.recipe.epochs == 1


def count_steps(callback):
    """Until it has measured enough."""
    for count in itertools.count(1):
        callback.on_train_batch_start()
        callback.on_before_backward()
        callback.on_after_backward()
        try:
            callback.on_train_batch_end()
        except measure._Measured:
            return count
    return None


@pytest.mark.parametrize(("device", "warm_ups"), [("cpu", 1), ("cuda", 2)])
def test_our_steps_are_as_many_as_a_measurement_needs(monkeypatch, device, warm_ups):
    """Counted by hand: two blocks of three steps, and the steps by phase at the end."""
    monkeypatch.setattr(measure, "synchronize", lambda device: None)
    turns = measure.Turns({}, device, blocks=2, steps=3)
    assert count_steps(turns) == measure.steps_within(device, 2, 3) == warm_ups * 3 + 2 * 3 + 8
    assert len(turns.watches["ours"].seconds) == 2 * 3
    assert [len(seconds) for seconds in turns.phases.values()] == [8] * 4


@pytest.mark.parametrize(
    ("device", "steps", "rounded"), [("cpu", 5, 5), ("cuda", 5, 8), ("cuda", 30, 32), ("cuda", 32, 32)]
)
def test_a_block_makes_as_many_batches_as_it_uses(device, steps, rounded):
    assert measure.whole_groups(device, steps) == rounded


@pytest.mark.parametrize(
    ("device", "compile", "is_reset"),
    [("cpu", False, False), ("cuda", True, True), ("cuda", "graphs", False), ("cuda", "compiled-graphs", False)],
)
def test_the_peak_of_graphs_is_that_of_their_capture(monkeypatch, device, compile, is_reset):
    resets = []
    monkeypatch.setattr(measure.machine, "reset_peak_memory", resets.append)
    task = TINY.task(NETWORK)
    task = replace(task, device=device, recipe=replace(task.recipe, compile=compile))
    measure.forget_first_steps(task)
    assert resets == [device] * is_reset


def test_the_usual_loop_is_neither_compiled_nor_channels_last(monkeypatch):
    """Whatever our own path is; on a GPU that is compiled."""
    made, create_model = [], loops.create_model

    def create_and_keep(*arguments):
        made.append(create_model(*arguments))
        return made[-1]

    monkeypatch.setattr(loops, "create_model", create_and_keep)
    task = TINY.task(NETWORK)
    task = replace(task, recipe=replace(task.recipe, compile=True, channels_last=True))
    reference_loop(task)
    bare_loop(task)
    assert [model.run_network.way for model in made] == [False, True]
    usual, ours = (model.network for model in made)
    assert all(p.is_contiguous() for p in usual.parameters())
    assert not all(p.is_contiguous() for p in ours.parameters())


def test_the_usual_loop_has_the_batch_norms_that_users_write(monkeypatch):
    made, create_model = [], loops.create_model
    monkeypatch.setattr(loops, "create_model", lambda *given: made.append(create_model(*given)) or made[-1])
    reference_loop(TINY.task("cifar_densenet40:depth=10"))
    norms = {type(m) for m in made[0].network.modules() if isinstance(m, torch.nn.BatchNorm2d)}
    assert norms == {torch.nn.BatchNorm2d}


def test_a_full_queue_is_used_up_before_the_usual_loop_is_timed_on_a_gpu(monkeypatch):
    monkeypatch.setattr(measure, "synchronize", lambda device: None)
    order = []
    others = {name: lambda name=name: order.append(name) for name in ("reference", "bare")}
    turns = measure.Turns(others, "cuda", blocks=1, steps=3)
    turns._let_others_run()
    assert order == ["reference"] * (2 * 2 + 3 + 3) + ["bare"] * (3 + 3)
    assert len(turns.watches["reference"].seconds) == 3


@pytest.mark.slow
def test_imagenets_networks_beside_torchvisions(monkeypatch, capsys, tmp_path):
    words = (
        "--only",
        "imagenet_hbnet18",
        "--blocks",
        1,
        "--steps",
        2,
        "--batch-size",
        2,
        "--results-dir",
        tmp_path,
    )
    code, (out, _) = run(monkeypatch, capsys, *words)
    assert code == 0
    assert "imagenet_hbnet18 and torchvision's resnet18" in out
    (path,) = tmp_path.glob("tables/speed-cpu-*.csv")
    row = pd.read_csv(path).iloc[0]
    assert path.name.endswith("-torchvision.csv")
    assert (row["network"], row["torchvision"], row["batch size"]) == ("imagenet_hbnet18", "resnet18", 2)
    assert row["processes"] == 1
    for loop in ("ours", "torchvision"):
        assert row[f"{loop} images/s"] == pytest.approx(2000 / row[f"{loop} ms"], rel=1e-3)
        assert row[f"{loop} memory bytes"] > 4 * 11_689_512
    assert row["throughput ratio"] == pytest.approx(row["torchvision ms"] / row["ours ms"], rel=1e-3)
    assert row["memory ratio"] == pytest.approx(
        row["ours memory bytes"] / row["torchvision memory bytes"], rel=1e-3
    )
    (text,) = tmp_path.glob("tables/*.md")
    assert "## ImageNet's networks beside torchvision's" in text.read_text()


def test_on_a_gpu_photographs_are_compiled_and_small_images_go_by_graphs(monkeypatch):
    monkeypatch.setattr(machine, "can_compile", lambda device: True)
    settings = suite.Settings("cuda", "32-true", "auto", batch_size=8, blocks=1, steps=8)
    found = {name: settings.task(name).recipe.compile for name in ("imagenet_resnet18", NETWORK)}
    assert found == {"imagenet_resnet18": True, NETWORK: "graphs"}


def test_every_network_for_imagenet_has_its_counterpart():
    assert set(suite.TORCHVISION) == {name for name in list_networks() if name.startswith("imagenet_")}


def test_both_loops_see_the_same_images_and_settings(monkeypatch):
    """Noise of one shape in one memory layout reaches both networks, under the same autocast."""
    settings = suite.Settings("cpu", "bf16-mixed", "off", batch_size=2, blocks=1, steps=1)
    seen = []

    def note(conv, inputs, output):
        if conv.in_channels == 3:
            (images,) = inputs
            layout = images.is_contiguous(memory_format=torch.channels_last)
            seen.append((images.shape, layout, output.dtype, conv.weight.stride()))

    handle = torch.nn.modules.module.register_module_forward_hook(
        lambda module, inputs, output: note(module, inputs, output) if isinstance(module, torch.nn.Conv2d) else None
    )
    try:
        for loop in (bare_loop, torchvision_loop):
            loop(settings.task("imagenet_resnet18"))()
    finally:
        handle.remove()
    assert seen == [((2, 3, 224, 224), True, torch.bfloat16, seen[0][3])] * 2


@pytest.mark.parametrize("stacked", [(), (2,)])
def test_noise_lies_ready_as_our_images_do(stacked):
    seen, task = [], TINY.task(NETWORK)

    def forward(images):
        seen.append(images.flatten(0, -4))
        return torch.zeros(*stacked, 8, 10, requires_grad=True)

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)])
    loops.step_on_noise(task, forward, optimizer, lambda logits, labels: logits.sum(), stacked)()
    assert seen[0].is_contiguous(memory_format=torch.channels_last)


def test_loops_take_turns_in_blocks(monkeypatch):
    order = []

    def counting(name):
        return lambda task: lambda: order.append(name)

    monkeypatch.setattr(measure, "reference_loop", counting("reference"))
    monkeypatch.setattr(measure, "bare_loop", counting("bare"))
    timing = measure.time_loops(TINY.task(NETWORK), TINY.blocks, TINY.steps)
    warm = measure.WARM_UP_STEPS
    blocks = (["bare"] * TINY.steps + ["reference"] * TINY.steps) * TINY.blocks
    assert order == ["bare"] * warm + ["reference"] * warm + blocks
    assert set(timing.seconds) == {"ours", "reference", "bare"}
    assert {len(seconds) for seconds in timing.seconds.values()} == {TINY.blocks * TINY.steps}
    assert min(timing.seconds["ours"]) > min(timing.seconds["bare"]) > 0


@pytest.mark.parametrize(
    ("loop", "network"),
    [(reference_loop, NETWORK), (bare_loop, NETWORK), (torchvision_loop, "imagenet_resnet18")],
)
def test_a_step_trains(loop, network, monkeypatch):
    networks = []
    create = torch.optim.SGD.__init__

    def watch(self, params, *args, **kwargs):
        params = list(params)
        networks.append([p for g in params for p in (g["params"] if isinstance(g, dict) else [g])])
        create(self, params, *args, **kwargs)

    monkeypatch.setattr(torch.optim.SGD, "__init__", watch)
    step = loop(TINY.task(network))
    before = [p.detach().clone() for p in networks[0]]
    step()
    assert all(not torch.equal(p, q) for p, q in zip(networks[0], before, strict=True) if p.requires_grad)


def test_time_of_a_block_on_a_gpu_is_shared_out(monkeypatch):
    monkeypatch.setattr(measure, "synchronize", lambda device: None)
    watch = measure.Stopwatch("cuda")
    measure.run_block(lambda: None, watch, 4)
    assert len(watch.seconds) == 4
    assert len(set(watch.seconds)) == 1


def test_unknown_networks_are_named():
    with pytest.raises(UserError, match="unknown network 'cifar_resnet2'"):
        suite.check("cifar_resnet2")
