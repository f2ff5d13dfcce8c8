"""The LightningModule under options of a user's Trainer that change what reaches it."""

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.tuner import Tuner

from datamodules import DigitsDataModule
from lightning_modules import LitClassifier
from lightning_modules.classifier import DivergedError, MeanLoss

SMALL = {"depth": 8, "in_channels": 1}


@pytest.fixture
def fit(tmp_path):
    def fit(model, ckpt_path=None, **options):
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        options = {"max_epochs": 1, "accelerator": "cpu", "enable_checkpointing": False, **quiet, **options}
        trainer = pl.Trainer(default_root_dir=tmp_path, **options)
        trainer.fit(model, datamodule=DigitsDataModule(batch_size=128), ckpt_path=ckpt_path)
        return trainer

    return fit


def classifier(**options):
    torch.manual_seed(0)
    return LitClassifier("cifar_hbnet20", network_options=SMALL, **options)


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16, torch.float64])
def test_losses_are_summed_in_float32_at_least(precision):
    """As Lightning's "bf16-true" casts the module, metrics and all; 50,000 samples do not fit a half's sum."""
    metric = MeanLoss().to(precision)
    metric.set_dtype(precision)
    for _ in range(400):
        metric.update(torch.tensor(2.5, dtype=precision), 128)
    assert metric.compute().item() == 2.5


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "bf16-true"])
def test_gradients_are_clipped_in_every_precision(fit, precision):
    norms = []

    class Watched(LitClassifier):
        def optimizer_zero_grad(self, *arguments):
            gradients = [p.grad for p in self.parameters() if p.grad is not None]
            norms.append(torch.nn.utils.get_total_norm(gradients).item() if gradients else 0.0)
            super().optimizer_zero_grad(*arguments)

    model = Watched("cifar_hbnet20", network_options=SMALL)
    fit(model, precision=precision, gradient_clip_val=0.01, limit_train_batches=3)
    assert norms[0] == 0.0
    assert norms[1:] == pytest.approx([0.01, 0.01], rel=0.02)


def test_overfitting_sees_the_same_batch_each_epoch(fit):
    seen = []

    class Watched(LitClassifier):
        def training_step(self, batch, batch_idx):
            seen.append(batch[1].tolist())
            return super().training_step(batch, batch_idx)

    fit(Watched("cifar_hbnet20", network_options=SMALL), max_epochs=3, overfit_batches=1)
    assert len(seen) == 3
    assert seen[0] == seen[1] == seen[2]


def test_a_network_that_is_put_in_place_of_another_is_the_one_that_runs(fit):
    model, other = classifier(), classifier().network
    model.network = other
    before = other.classifier.weight.clone()
    fit(model, limit_train_batches=1)
    assert not torch.equal(other.classifier.weight, before)
    images = torch.randn(2, 1, 8, 8)
    model.eval()
    assert torch.equal(model(images), other(images))


def test_what_was_broken_off_is_not_counted_afterwards(fit):
    model, healthy = classifier(), classifier().state_dict()
    with torch.no_grad():
        model.network.classifier.weight.fill_(torch.nan)
    with pytest.raises(DivergedError):
        fit(model)
    model.load_state_dict(healthy)
    assert fit(model, limit_train_batches=2).callback_metrics["train_loss"].isfinite()


def test_numbers_of_numpy_are_loaded_again(fit, tmp_path):
    recipe = {"learning_rate": np.logspace(-3, -1, 3)[1], "milestones": list(np.array([0.5]))}
    options = {**SMALL, "depth": np.int64(8), "beta": np.float64(0.3)}
    model = LitClassifier("cifar_hbnet20", np.int64(10), network_options=options, recipe=recipe)
    fit(model, limit_train_batches=1).save_checkpoint(tmp_path / "model.ckpt")
    loaded = LitClassifier.load_from_checkpoint(tmp_path / "model.ckpt")
    assert loaded.hparams.recipe["learning_rate"] == pytest.approx(0.01)
    assert type(loaded.hparams.network_options["beta"]) is float


def test_errors_of_mixed_labels_are_those_of_the_likeliest():
    """As MixUp and CutMix make them."""
    model = classifier().eval()
    images, labels = torch.randn(6, 1, 8, 8), torch.arange(6)
    errors = []
    for given in (labels, 0.7 * torch.eye(10)[labels] + 0.3 * torch.eye(10)[labels.flip(0)]):
        model.validation_step((images, given), 0)
        errors.append(model.val_metrics["accuracy"].compute())
        model.val_metrics["accuracy"].reset()
    assert errors[0] == errors[1]


def test_layers_may_be_unfrozen_in_training(fit):
    """Momenta that begin later are those of an optimizer that begins each by itself."""

    class Unfreeze(pl.Callback):
        def on_train_epoch_start(self, trainer, model):
            model.network.stages.requires_grad_(trainer.current_epoch > 0)

    class Apart(LitClassifier):
        def configure_optimizers(self):
            optimizer = torch.optim.SGD(
                self.parameters(), 0.1, 0.9, nesterov=True, weight_decay=1e-4, foreach=False
            )
            optimizer.param_groups[0]["params"] = [p for n, p in self.named_parameters() if "beta" not in n]
            betas = [p for n, p in self.named_parameters() if "beta" in n]
            optimizer.add_param_group({"params": betas, "weight_decay": 0.0})
            return optimizer

    results = []
    for kind in (LitClassifier, Apart):
        torch.manual_seed(0)
        model = kind("cifar_hbnet20", network_options={**SMALL, "depth": 14}, recipe={"epochs": 100})
        fit(model, max_epochs=2, limit_train_batches=3, callbacks=[Unfreeze()])
        results.append(torch.nn.utils.parameters_to_vector(p.contiguous() for p in model.parameters()).detach())
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-6)


def test_a_subclasss_own_layers_are_trained(fit):
    class Calibrated(LitClassifier):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            self.own = torch.nn.Linear(10, 10)

        def forward(self, images):
            return self.own(super().forward(images))

    model = Calibrated("cifar_hbnet20", network_options=SMALL)
    before = model.own.weight.clone()
    fit(model, limit_train_batches=2)
    assert not torch.equal(model.own.weight, before)


def test_the_learning_rate_finder_finds_the_recipes(fit, tmp_path):
    model = classifier(recipe={"learning_rate": 0.3})
    assert model.learning_rate == 0.3
    with pytest.raises(ValueError, match="learning_rate is -1"):
        model.learning_rate = -1
    trainer = pl.Trainer(logger=False, enable_progress_bar=False, accelerator="cpu", default_root_dir=tmp_path)
    found = Tuner(trainer).lr_find(model, datamodule=DigitsDataModule(batch_size=128), num_training=20)
    assert model.learning_rate == found.suggestion() != 0.3
    trainer = fit(model, limit_train_batches=1)
    assert trainer.optimizers[0].param_groups[0]["initial_lr"] == model.learning_rate
    trainer.save_checkpoint(tmp_path / "found.ckpt")
    assert LitClassifier.load_from_checkpoint(tmp_path / "found.ckpt").learning_rate == model.learning_rate


def test_loss_and_error_are_shown(fit):
    trainer = fit(classifier(), limit_train_batches=1, limit_val_batches=1)
    assert {"train_loss", "train_error", "val_loss", "val_error"} <= trainer.progress_bar_metrics.keys()


def test_a_checkpoint_gives_all_but_its_head_to_other_classes(fit, tmp_path):
    model = classifier()
    fit(model, limit_train_batches=1).save_checkpoint(tmp_path / "ten.ckpt")
    other = LitClassifier.load_from_checkpoint(tmp_path / "ten.ckpt", num_classes=3, strict=False)
    assert other.network.classifier.weight.shape[0] == 3
    ours, theirs = other.network.state_dict(), model.network.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs if not name.startswith("classifier."))
    with pytest.raises(RuntimeError, match=r"size mismatch for network\.classifier\.weight"):
        LitClassifier.load_from_checkpoint(tmp_path / "ten.ckpt", num_classes=3)
    other = LitClassifier("cifar_hbnet20", num_classes=30, network_options=SMALL)
    other.strict_loading = False  # or the optimizer would go on with the momentum of the head of ten
    with pytest.raises(RuntimeError, match=r"size mismatch for network\.classifier\.weight"):
        fit(other, ckpt_path=tmp_path / "ten.ckpt", max_epochs=2)
