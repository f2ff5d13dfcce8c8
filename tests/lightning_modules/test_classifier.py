"""The LightningModule in a user's own Trainer."""

import pytest
import pytorch_lightning as pl
import torch

from datamodules import DigitsDataModule
from lightning_modules import LitClassifier
from lightning_modules.classifier import DivergedError, MeanLoss
from lightning_modules.recipes import resolve_recipe

SMALL = {"depth": 14, "in_channels": 1}


def classifier(**options):
    torch.manual_seed(0)
    options = {"network_options": SMALL, "recipe": {"epochs": 3, "schedule": "one_cycle"}, **options}
    return LitClassifier(options.pop("network", "cifar_hbnet20"), num_classes=10, **options)


def trainer(path, **options):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    options = {"max_epochs": 1, "accelerator": "cpu", "enable_checkpointing": False, **quiet, **options}
    return pl.Trainer(default_root_dir=path, **options)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Three epochs on digits through Lightning alone, and the checkpoint."""
    path = tmp_path_factory.mktemp("trained")
    model, fit = classifier(), trainer(path, max_epochs=3)
    fit.fit(model, datamodule=DigitsDataModule(batch_size=64))
    (tested,) = fit.test(model, datamodule=DigitsDataModule(), verbose=False)
    fit.save_checkpoint(path / "model.ckpt")
    return model, fit.callback_metrics, tested, path / "model.ckpt"


def test_it_learns(trained):
    assert trained[2]["test_error"] < 30
    assert trained[2]["test_top5_error"] <= trained[2]["test_error"]


def test_predictions_are_of_the_test_images(trained, tmp_path):
    _, _, tested, path = trained
    model, digits = LitClassifier.load_from_checkpoint(path), DigitsDataModule()
    logits = torch.cat(trainer(tmp_path).predict(model, datamodule=digits))
    wrong = logits.argmax(1) != torch.cat([labels for _, labels in digits.test_dataloader()])
    assert 100 * wrong.double().mean().item() == pytest.approx(tested["test_error"])


def test_errors_are_percent_and_counted_by_hand(trained):
    model, _, tested, _ = trained
    digits = DigitsDataModule()
    digits.setup()
    model.eval()
    with torch.no_grad():
        wrong = sum((model(x).argmax(1) != y).sum().item() for x, y in digits.test_dataloader())
        wrong5 = sum(
            (model(x).topk(5).indices != y[:, None]).all(1).sum().item() for x, y in digits.test_dataloader()
        )
    assert tested["test_error"] == pytest.approx(100 * wrong / 500, abs=1e-3)
    assert tested["test_top5_error"] == pytest.approx(100 * wrong5 / 500, abs=1e-3)


def test_a_checkpoint_loads_by_its_path_alone(trained):
    model, _, _, path = trained
    again = LitClassifier.load_from_checkpoint(path)
    x = torch.randn(4, 1, 8, 8)
    assert torch.equal(again.eval()(x), model.eval()(x))
    torch.load(path, weights_only=True)  # plain values and tensors: no code in it


def test_a_checkpoint_of_another_definition_of_its_network_is_refused(trained, monkeypatch):
    """Its weights may fit all the same, and compute something else."""
    path = trained[3]
    monkeypatch.setattr("lightning_modules.classifier.network_definition", lambda name, options: 2)
    with pytest.raises(ValueError, match=r"checkpoint is of definition 1 of .*, the code has 2"):
        LitClassifier.load_from_checkpoint(path)


def test_learned_coefficients_are_trained_without_weight_decay(trained):
    model = trained[0]
    decayed, free = model.trainer.optimizers[0].param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (1e-4, 0)
    assert [id(p) for p in free["params"]] == [id(stage.rule.beta) for stage in model.network.stages]
    assert all((stage.rule.beta != 0.5).all() for stage in model.network.stages)


def test_one_cycle_ends_low_and_step_divides_by_ten(tmp_path):
    rates = {}

    class Rates(pl.Callback):
        def on_train_batch_start(self, trainer, *_):
            rates[trainer.global_step] = trainer.optimizers[0].param_groups[0]["lr"]

    def fit(schedule, max_epochs, **recipe):
        """The Trainer says how long it is where the recipe does not."""
        rates.clear()
        model = classifier(recipe={"schedule": schedule, "learning_rate": 0.1, **recipe})
        trainer(
            tmp_path, max_epochs=max_epochs, limit_train_batches=2, limit_val_batches=0, callbacks=[Rates()]
        ).fit(model, datamodule=DigitsDataModule())
        return [rates[step] for step in sorted(rates)]

    one_cycle = fit("one_cycle", 5)
    assert max(one_cycle) == pytest.approx(0.1)
    assert one_cycle[-1] < 1e-3
    assert fit("step", 4) == pytest.approx([0.1] * 4 + [0.01] * 2 + [0.001] * 2)
    assert fit("step", 1) == pytest.approx([0.1, 0.1])
    assert fit("step", 2, epochs=4) == pytest.approx([0.1] * 4)


def test_a_loss_that_is_not_finite_stops_before_the_update(tmp_path):
    model = classifier(recipe={"epochs": 1})
    digits = DigitsDataModule()
    digits.prepare_data()
    digits.setup()
    digits.mean = digits.mean * float("nan")
    before = {name: p.clone() for name, p in model.network.named_parameters()}
    with pytest.raises(DivergedError, match="loss is nan in epoch 0, batch 0"):
        trainer(tmp_path).fit(model, datamodule=digits)
    assert all(torch.equal(before[name], p) for name, p in model.network.named_parameters())


def test_a_loss_that_no_step_was_asked_for_ends_the_epoch(tmp_path, monkeypatch):
    """As on a GPU, where most losses are not read."""
    model = classifier(recipe={"epochs": 1})
    step = model._step
    check = model._check_finite
    monkeypatch.setattr(model, "_step", lambda *a: step(*a) * torch.nan if model.training else step(*a))
    monkeypatch.setattr(model, "_check_finite", lambda loss, where: "batch" in where or check(loss, where))
    with pytest.raises(DivergedError, match=r"loss is nan in epoch 0$"):
        trainer(tmp_path).fit(model, datamodule=DigitsDataModule())


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_one_loss_that_is_not_finite_spoils_the_mean(value):
    loss = MeanLoss()
    for each, count in ((1.0, 64), (value, 64), (2.0, 17)):
        loss.update(torch.tensor(each), count)
    assert not torch.isfinite(loss.compute())


def test_the_mean_loss_is_over_samples():
    loss = MeanLoss()
    loss.update(torch.tensor(1.0), 64)
    loss.update(torch.tensor(3.0), 16)
    assert loss.compute() == 1.4


def test_channels_last_changes_memory_not_numbers():
    x = torch.randn(4, 1, 8, 8)
    one, other = classifier(channels_last=True).eval(), classifier(channels_last=False).eval()
    assert one.network.stages[0].transforms[0].conv2.weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(one(x), other(x), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"network": "cifar_resnet21"}, "unknown network 'cifar_resnet21'; did you mean"),
        ({"network_options": {"depth": 9}}, "depth 9 is not 6n"),
        ({"recipe": {"epoch": 3}}, "unknown recipe fields epoch; valid: epochs"),
        ({"recipe": {"schedule": "cosine"}}, "unknown schedule 'cosine'; valid: step, one_cycle"),
        ({"recipe": {"epochs": 0}}, "epochs is 0; it must be a finite number from 1 on"),
        ({"recipe": {"weight_decay": float("nan")}}, "weight_decay is nan; it must be a finite number"),
        ({"recipe": {"learning_rate": "0.1"}}, "learning_rate is '0.1'"),
        ({"recipe": {"nesterov": "no"}}, "nesterov must be True or False, got 'no'"),
        ({"recipe": {"milestones": (150, 225)}}, r"milestones are \(150, 225\); they must be fractions"),
        ({"recipe": {"milestones": 0.5}}, "milestones are 0.5; they must be fractions"),
        ({"network_options": {"num_classes": 5}}, "num_classes is an argument of its own"),
        ({"compile": "graph"}, "unknown way to compile 'graph'; valid: False, True, graphs"),
    ],
)
def test_mistakes(options, message):
    with pytest.raises(ValueError, match=message):
        classifier(**options)


@pytest.mark.parametrize("num_classes", [0, -1, "10", True])
def test_the_number_of_classes_is_positive(num_classes):
    with pytest.raises(ValueError, match="num_classes must be a positive whole number"):
        LitClassifier("cifar_resnet20", num_classes)


def test_without_momentum_there_is_none_to_look_ahead_by(tmp_path):
    model = classifier(recipe={"momentum": 0})
    trainer(tmp_path, limit_train_batches=1).fit(model, datamodule=DigitsDataModule(batch_size=64))


def test_more_classes_than_outputs_are_told_before_training(tmp_path):
    model = LitClassifier("cifar_resnet20", num_classes=5, network_options={"depth": 8, "in_channels": 1})
    with pytest.raises(ValueError, match="the data have 10 classes, the network 5; give num_classes=10"):
        trainer(tmp_path).fit(model, datamodule=DigitsDataModule(batch_size=64))


def test_recipe_defaults_are_the_published_protocol():
    recipe = resolve_recipe({})
    assert recipe == {
        "epochs": 300,
        "learning_rate": 0.1,
        "momentum": 0.9,
        "nesterov": True,
        "weight_decay": 1e-4,
        "schedule": "step",
        "milestones": (0.5, 0.75),
    }


@pytest.mark.parametrize("stage", ["validation", "test"])
def test_a_part_without_images_counts_for_nothing(stage):
    """As a process has it whose evaluation ends with fewer images than there are processes."""
    model = classifier().eval()
    images, labels = torch.randn(6, 1, 8, 8), torch.arange(6)
    step = {"validation": model.validation_step, "test": model.test_step}[stage]
    metrics = {"validation": model.val_metrics, "test": model.test_metrics}[stage]
    step((images, labels), 0)
    before = {name: metric.compute() for name, metric in metrics.items()}
    step((images[:0], labels[:0]), 1)
    for name, metric in metrics.items():
        metric._computed = None
        assert torch.equal(metric.compute(), before[name])


class FewArguments(LitClassifier):
    """A subclass whose arguments have the names of the classifier's and other values."""

    def __init__(self, recipe=None, num_classes=None, network_options="small", compile=None, channels_last=None):
        torch.manual_seed(0)
        super().__init__("cifar_hbnet20", 10, {"depth": 14, "in_channels": 1}, {"schedule": "step", "epochs": 3})


def test_a_subclass_may_use_the_names_of_arguments_for_its_own(tmp_path):
    model, fit = FewArguments(recipe="fast"), trainer(tmp_path, limit_train_batches=2)
    fit.fit(model, datamodule=DigitsDataModule(batch_size=64))
    fit.save_checkpoint(tmp_path / "model.ckpt")
    loaded = FewArguments.load_from_checkpoint(tmp_path / "model.ckpt")
    assert loaded.hparams.recipe == "fast"
    assert [*fit.lr_scheduler_configs[0].scheduler.milestones] == [2], "of the recipe's three epochs, not of one"
    images = torch.randn(2, 1, 8, 8)
    assert torch.equal(loaded.eval()(images), model.eval()(images))


def test_a_datamodule_need_not_know_its_classes(tmp_path):
    class Unknown(DigitsDataModule):
        num_classes = None

    trainer(tmp_path, fast_dev_run=True).fit(classifier(), datamodule=Unknown(batch_size=64))
