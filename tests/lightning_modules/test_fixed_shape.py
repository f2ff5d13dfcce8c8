"""Full training batches go the prepared way, all else through the network itself."""

import copy
import pickle

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import GradientAccumulationScheduler

from lightning_modules import create_network
from lightning_modules.classifier import LitClassifier
from lightning_modules.fixed_shape import CAPTURED, FixedShape


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


@pytest.mark.parametrize(
    "change",
    [
        lambda network: network.classifier.weight.requires_grad_(False),
        lambda network: network.stem.eval(),
        lambda network: network.stem[1].register_buffer("running_mean", torch.ones(16)),
        lambda network: network.double(),
    ],
    ids=["frozen", "evaluating in part", "another buffer", "another type"],
)
def test_what_a_replay_would_not_see_is_prepared_for_anew(prepared, change):
    """As freezing in between (BaseFinetuning) and statistics of averaged weights (StochasticWeightAveraging) do."""
    network = small_network()
    run, images = FixedShape(network, True), torch.randn(2, 3, 8, 8)
    run(images)
    change(network)
    images = images.to(network.classifier.weight.dtype)
    run(images)
    run(images)
    assert prepared["compiled"] == 2


def test_what_is_prepared_stays_behind_in_a_copy(prepared):
    model = LitClassifier("cifar_hbnet20", network_options={"depth": 8}, compile=True)
    images = torch.randn(2, 3, 8, 8)
    model(images)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert twin.run_network.prepared is twin.network
        twin(images)
    assert prepared["compiled"] == 3


@pytest.mark.parametrize("way", CAPTURED)
@pytest.mark.parametrize(
    "options",
    [{"accumulate_grad_batches": 2}, {"callbacks": [GradientAccumulationScheduler({0: 2})]}],
    ids=["always", "scheduled"],
)
def test_gradients_of_several_batches_are_refused(tmp_path, way, options):
    """Those of a replay lie where those of the next one will."""
    model = LitClassifier("cifar_hbnet20", network_options={"depth": 8}, compile=way)
    silence = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(max_epochs=1, default_root_dir=tmp_path, **silence, **options)
    batches = [(torch.randn(2, 3, 8, 8), torch.zeros(2, dtype=torch.long))]
    with pytest.raises(ValueError, match="cannot accumulate gradients"):
        trainer.fit(model, batches)


def test_a_module_and_its_copy_each_call_their_own_network():
    model = LitClassifier("cifar_hbnet20", network_options={"depth": 8})
    twin = copy.deepcopy(model)
    assert model.run_network.network is model.network
    assert twin.run_network.network is twin.network
    assert not any(name.startswith("run_network") for name in model.state_dict())


@pytest.mark.parametrize("way", CAPTURED)
def test_memory_efficient_networks_with_dropout_are_refused(way):
    options = {"depth": 10, "memory_efficient": True}
    LitClassifier("cifar_densenet40", network_options=options, compile=way)
    with pytest.raises(
        ValueError, match="a memory_efficient network with dropout cannot be captured as CUDA graphs"
    ):
        LitClassifier("cifar_densenet40", network_options={**options, "dropout": 0.2}, compile=way)
