"""Graphs that are recorded and replayed train as the network does."""

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F

from datamodules import DigitsDataModule
from lightning_modules import create_network
from lightning_modules.classifier import LitClassifier
from lightning_modules.cuda_graphs import capture
from lightning_modules.fixed_shape import COMPILED_GRAPHS, GRAPHS
from tests.lightning_modules.test_cuda_graphs import CASES, small_network

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
COMPILED = [CASES[1], CASES[2], CASES[4]]


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("way", "name", "options"),
    [*((GRAPHS, *case) for case in CASES), *((COMPILED_GRAPHS, *case) for case in COMPILED)],
    ids=str,
)
def test_replayed_graphs_train_as_the_network_does(monkeypatch, way, name, options, precision):
    """Steps of SGD with a smaller batch and an evaluation among them, then evaluation."""
    torch.compiler.reset()
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    models, optimizers = [], []
    for compile in (way, False):  # the graphs first, so that cuDNN tries its algorithms
        torch.manual_seed(0)
        models.append(LitClassifier(name, network_options=options, compile=compile).cuda())
        optimizers.append(torch.optim.SGD(models[-1].parameters(), lr=0.01, momentum=0.9, fused=True))
    batches = [(torch.randn(n, 3, 8, 8).cuda(), torch.randint(0, 10, (n,)).cuda()) for n in (6, 6, 4, 6)]
    tolerance = {"rtol": 2e-3, "atol": 5e-4} if precision == torch.float32 else {"rtol": 0.1, "atol": 0.03}
    outcomes = []
    for model, optimizer in zip(models, optimizers, strict=True):
        torch.manual_seed(1)  # of dropout
        losses = []
        for images, labels in batches:
            model.train()
            with torch.autocast("cuda", precision, enabled=precision != torch.float32):
                logits = model(images).float()
            optimizer.zero_grad()
            losses.append(F.cross_entropy(logits, labels))
            losses[-1].backward()
            optimizer.step()
            model.eval()(images)
        outcomes.append((torch.stack(losses), model.eval()(batches[0][0]), dict(model.named_buffers())))
    graphed, eager = outcomes
    assert models[0].run_network.prepared is not models[0].network
    torch.testing.assert_close(graphed, eager, **tolerance)
    losses = graphed[0]
    assert losses[0] != losses[1]  # the second batch and the first update, which a stale replay would not know
    counts = [b for name, b in eager[2].items() if name.endswith("num_batches_tracked")]
    assert all(count == len(batches) for count in counts)


@pytest.mark.parametrize("compiled", [False, True])
def test_each_replay_draws_masks_of_its_own(compiled):
    torch.compiler.reset()
    torch.manual_seed(0)
    network = create_network("cifar_densenet40", depth=10, dropout=0.5).cuda()
    images = torch.randn(4, 3, 8, 8, device="cuda")
    replay = capture(network, images, compiled)
    first, second = (replay(images).clone() for _ in range(2))
    assert not torch.allclose(first, second, rtol=0.01)


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


def test_a_result_from_before_that_is_kept_prevents_a_capture_and_nothing_after_it():
    network, images = small_network().cuda(), torch.randn(4, 3, 8, 8, device="cuda")
    stream, kept = torch.cuda.current_stream(), network(images)
    with pytest.raises(RuntimeError, match="cannot be captured as CUDA graphs"):
        capture(network, images)
    assert torch.cuda.current_stream() == stream
    del kept
    torch.testing.assert_close(capture(network, images)(images), network(images))


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


def test_a_replay_launches_fewer_kernels_from_the_host():
    network = small_network().cuda()
    images = torch.randn(4, 3, 8, 8, device="cuda")
    replay = capture(network, images)
    counts = []
    for run in (network, replay):
        network.zero_grad()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            run(images).sum().backward()
        counts.append(sum(e.count for e in profile.key_averages() if e.key.startswith("aten::")))
    assert counts[1] < counts[0] / 2
