"""Full training batches go the prepared way, all else through the network itself; a capture changes nothing."""

import copy
import pickle

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F

from datamodules import DigitsDataModule
from lightning_modules import create_network
from lightning_modules.classifier import LitClassifier
from lightning_modules.fixed_shape import GRAPHS, FixedShape, capture

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
CASES = [
    ("cifar_hbnet20", {"depth": 14}),
    ("cifar_agdresnet20", {"depth": 14}),
    ("cifar_agdnet40", {"depth": 13, "coefficients": "learned"}),
    ("cifar_agdnet40", {"depth": 13, "coefficients": "learned", "reading": "fixed_point", "dropout": 0.2}),
    ("cifar_densenet40", {"depth": 10, "memory_efficient": True}),
]


@pytest.fixture
def prepared(monkeypatch):
    """Shapes of the batches that went through what torch.compile returned, and how often it was called."""
    seen = {"shapes": [], "compiled": 0}

    def compile_and_count(network, mode=None, dynamic=None):
        assert not dynamic
        seen["compiled"] += 1

        def forward(images):
            seen["shapes"].append(tuple(images.shape))
            return network(images)

        return forward

    monkeypatch.setattr(torch, "compile", compile_and_count)
    return seen


def small_network():
    torch.manual_seed(0)
    return create_network("cifar_hbnet20", depth=8)


def test_only_full_training_batches_go_the_prepared_way(prepared):
    network = small_network()
    run = FixedShape(network, True)
    full, rest = torch.randn(6, 3, 8, 8), torch.randn(2, 3, 8, 8)
    for images in (full, full, rest, full):
        run(images)
    with torch.no_grad():
        run(full)
    network.eval()
    run(full)
    assert prepared == {"shapes": [tuple(full.shape)] * 3, "compiled": 1}


def test_no_way_is_the_network_itself(prepared):
    run = FixedShape(small_network(), False)
    run(torch.randn(2, 3, 8, 8))
    assert prepared == {"shapes": [], "compiled": 0}


def test_weights_that_moved_and_another_precision_are_prepared_for_anew(prepared):
    """Also where all but the last weight lie as before: a replay would read what is no longer there."""
    network = small_network()
    run, images = FixedShape(network, True), torch.randn(2, 3, 8, 8)
    run(images)
    *_, last = network.parameters()
    last.data = last.data.clone()
    run(images)
    assert prepared["compiled"] == 2
    with torch.autocast("cpu", torch.bfloat16):
        run(images)
    assert prepared["compiled"] == 3
    run(images)
    run(images)
    assert prepared["compiled"] == 4


def test_what_is_prepared_stays_behind_in_a_copy(prepared):
    model = LitClassifier("cifar_hbnet20", network_options={"depth": 8}, compile=True)
    images = torch.randn(2, 3, 8, 8)
    model(images)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert twin.run_network.prepared is twin.network
        twin(images)
    assert prepared["compiled"] == 3


def test_gradients_of_several_batches_are_refused(tmp_path):
    """Those of a replay lie where those of the next one will."""
    model = LitClassifier("cifar_hbnet20", network_options={"depth": 8}, compile=GRAPHS)
    options = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(accumulate_grad_batches=2, max_epochs=1, default_root_dir=tmp_path, **options)
    batches = [(torch.randn(2, 3, 8, 8), torch.zeros(2, dtype=torch.long))]
    with pytest.raises(ValueError, match="cannot accumulate gradients"):
        trainer.fit(model, batches)


def test_a_module_and_its_copy_each_call_their_own_network():
    model = LitClassifier("cifar_hbnet20", network_options={"depth": 8})
    twin = copy.deepcopy(model)
    assert model.run_network.network is model.network
    assert twin.run_network.network is twin.network
    assert not any(name.startswith("run_network") for name in model.state_dict())


def test_memory_efficient_networks_with_dropout_are_refused():
    options = {"depth": 10, "memory_efficient": True}
    LitClassifier("cifar_densenet40", network_options=options, compile=GRAPHS)
    with pytest.raises(
        ValueError, match="a memory_efficient network with dropout cannot be captured as CUDA graphs"
    ):
        LitClassifier("cifar_densenet40", network_options={**options, "dropout": 0.2}, compile=GRAPHS)


def test_graphs_without_a_gpu():
    with pytest.raises(RuntimeError, match="CUDA graphs need a GPU; the images are on the cpu"):
        capture(small_network(), torch.randn(2, 3, 8, 8))


class OnGPU(torch.Tensor):
    """Says that it is on a GPU, and its copies are not: what a capture asks for."""

    device = torch.device("cuda")

    def clone(self):
        return self.as_subclass(torch.Tensor).clone()


def no_gpu(monkeypatch, states):
    """A GPU's state without a GPU: ``states`` gathers what is set."""
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: "the generator")
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: states.append(state))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: "the stream")
    monkeypatch.setattr(torch.cuda, "set_stream", states.append)


def test_a_capture_leaves_the_network_as_it_was(monkeypatch):
    """torch's own warm-up counts batches, moves running statistics and draws masks."""
    network = small_network()
    states, seen = [], {}

    def warm_up(module, arguments, allow_unused_input):
        assert torch.is_autocast_cache_enabled() is False
        assert allow_unused_input
        for _ in range(3):
            torch.autograd.grad(module(*arguments).sum(), tuple(module.parameters()))
        seen["moved"] = next(module.buffers()).clone()
        module.forward = lambda images: "replayed"

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", warm_up)
    no_gpu(monkeypatch, states)
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    images = torch.randn(4, 3, 8, 8)
    replay = capture(network, images.as_subclass(OnGPU))
    assert replay(images) == "replayed"
    assert states == ["the stream", "the generator"]
    assert not torch.equal(seen["moved"], next(iter(buffers.values())))
    for name, buffer in network.named_buffers():
        assert torch.equal(buffer, buffers[name]), name
    assert all(parameter.grad is None for parameter in network.parameters())
    assert network(images).shape == (4, 10)


def test_a_capture_that_fails_leaves_the_network_as_it_was(monkeypatch):
    def fail(module, arguments, allow_unused_input):
        module(*arguments)
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", fail)
    no_gpu(monkeypatch, states := [])
    network = small_network()
    before = copy.deepcopy(network.state_dict())
    message = r"cannot be captured as CUDA graphs \(operation not permitted when.*\); take --compile default or off"
    with pytest.raises(RuntimeError, match=message):
        capture(network, torch.randn(4, 3, 8, 8).as_subclass(OnGPU))
    assert states == ["the stream", "the generator"]
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name


@needs_gpu
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_replayed_graphs_train_as_the_network_does(name, options, precision):
    """Steps of SGD with a smaller batch and an evaluation among them, then evaluation."""
    models, optimizers = [], []
    for compile in (False, GRAPHS):
        torch.manual_seed(0)
        models.append(LitClassifier(name, network_options=options, compile=compile).cuda())
        optimizers.append(torch.optim.SGD(models[-1].parameters(), lr=0.01, momentum=0.9, fused=True))
    batches = [(torch.randn(n, 3, 8, 8).cuda(), torch.randint(0, 10, (n,)).cuda()) for n in (6, 6, 4, 6)]
    tolerance = {"rtol": 1e-3, "atol": 1e-4} if precision == torch.float32 else {"rtol": 0.1, "atol": 0.03}
    outcomes = []
    for model, optimizer in zip(models, optimizers, strict=True):
        torch.manual_seed(1)  # of dropout
        losses = []
        for images, labels in batches:
            model.eval()(images)
            model.train()
            with torch.autocast("cuda", precision, enabled=precision != torch.float32):
                logits = model(images).float()
            optimizer.zero_grad()
            losses.append(F.cross_entropy(logits, labels))
            losses[-1].backward()
            optimizer.step()
        outcomes.append((torch.stack(losses), model.eval()(batches[0][0]), dict(model.named_buffers())))
    eager, graphed = outcomes
    assert models[1].run_network.prepared is not models[1].network
    torch.testing.assert_close(graphed, eager, **tolerance)
    losses = graphed[0]
    assert losses[0] != losses[1]  # the second batch and the first update, which a stale replay would not know
    counts = [b for name, b in eager[2].items() if name.endswith("num_batches_tracked")]
    assert all(count == len(batches) for count in counts)


@needs_gpu
def test_a_replay_reads_the_weights_of_now():
    """Those that autocast casts, too."""
    network, images = small_network().cuda(), torch.randn(4, 3, 8, 8, device="cuda")
    with torch.autocast("cuda", torch.bfloat16):
        replay = capture(network, images)
        before = replay(images).clone()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(2)
        expected, after = network(images), replay(images)
    assert not torch.allclose(after, before, rtol=0.1)
    torch.testing.assert_close(after, expected, rtol=0.05, atol=0.05)


@needs_gpu
def test_a_result_from_before_that_is_kept_prevents_a_capture_and_nothing_after_it():
    network, images = small_network().cuda(), torch.randn(4, 3, 8, 8, device="cuda")
    stream, kept = torch.cuda.current_stream(), network(images)
    with pytest.raises(RuntimeError, match="cannot be captured as CUDA graphs"):
        capture(network, images)
    assert torch.cuda.current_stream() == stream
    del kept
    torch.testing.assert_close(capture(network, images)(images), network(images))


@needs_gpu
def test_lightning_trains_by_graphs_as_without_them(tmp_path):
    """Two epochs in bf16 on the digits, whose last batch is smaller; then a second fit of the same model."""
    errors = []
    for compile in (False, GRAPHS):
        torch.manual_seed(0)
        model = LitClassifier(
            "cifar_hbnet20",
            network_options={"depth": 8, "in_channels": 1},
            recipe={"learning_rate": 0.05},
            compile=compile,
        )
        options = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
        for _ in range(2):
            trainer = pl.Trainer(
                accelerator="gpu",
                devices=1,
                precision="bf16-mixed",
                max_epochs=2,
                enable_model_summary=False,
                default_root_dir=tmp_path,
                **options,
            )
            trainer.fit(model, datamodule=DigitsDataModule(batch_size=64))
            errors.append(trainer.test(model, datamodule=DigitsDataModule(), verbose=False)[0]["test_error"])
    eager, graphed = errors[:2], errors[2:]
    assert graphed[1] < graphed[0] < 60
    assert abs(graphed[1] - eager[1]) < 5


@needs_gpu
def test_a_replay_launches_fewer_kernels_from_the_host():
    network = small_network().cuda()
    images = torch.randn(4, 3, 8, 8, device="cuda")
    replay = capture(network, images)
    counts = []
    for run in (network, replay):
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            run(images).sum().backward()
        counts.append(sum(e.count for e in profile.key_averages() if e.key.startswith("aten::")))
    assert counts[1] < counts[0] / 2
