"""The usual loop and ours agree where they should: same weights, same images, same rates, same step."""

import dataclasses

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from benchmark import reference
from benchmark.specs import RecipeSpec
from datamodules import DigitsDataModule
from lightning_modules.classifier import DivergedError, LitClassifier
from lightning_modules.recipes import DEFAULTS

RECIPES = [
    RecipeSpec(epochs=2, batch_size=16, learning_rate=0.2, weight_decay=5e-4, schedule="one_cycle"),
    RecipeSpec(epochs=4, batch_size=16, milestones=(0.1, 0.25, 0.5)),
]
STEPS_PER_EPOCH = 2


class Rates(pl.Callback):
    def __init__(self):
        self.rates = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: r.schedule)
def test_steps_and_rates_equal_those_of_the_lightning_module(recipe, tmp_path):
    generator = torch.Generator().manual_seed(0)
    batches = [
        (torch.randn(16, 3, 8, 8, generator=generator), torch.randint(0, 10, (16,), generator=generator))
        for _ in range(STEPS_PER_EPOCH)
    ]
    torch.manual_seed(0)
    fields = {name: getattr(recipe, name) for name in DEFAULTS}
    ours = LitClassifier("cifar_resnet20", recipe=fields, network_options={"depth": 8}, channels_last=False)
    theirs = LitClassifier("cifar_resnet20", network_options={"depth": 8}, channels_last=False).network
    theirs.load_state_dict(ours.network.state_dict())
    rates = Rates()
    trainer = pl.Trainer(
        max_epochs=recipe.epochs,
        accelerator="cpu",
        callbacks=[rates],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(ours, torch.utils.data.DataLoader(batches, batch_size=None))

    optimizer = reference.create_optimizer(theirs, recipe)
    schedule = reference.create_schedule(optimizer, recipe, STEPS_PER_EPOCH)
    expected = []
    for images, labels in batches * recipe.epochs:
        expected.append(schedule.get_last_lr()[0])
        reference.train_step(theirs, optimizer, images, labels)
        schedule.step()
    assert rates.rates == pytest.approx(expected)
    for ours_value, theirs_value in zip(ours.network.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(ours_value, theirs_value, rtol=1e-4, atol=1e-5)


def test_images_pass_through_pil_normalised_and_in_order():
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    dataset = reference.PILDataset(images, np.arange(5), augment=False)
    image, label = dataset[3]
    assert label == 3
    expected = (images[3] / 255 - np.array(reference.MEAN)) / np.array(reference.STD)
    torch.testing.assert_close(image, torch.tensor(expected.transpose(2, 0, 1), dtype=torch.float32))


def test_evaluation_counts_every_image_once():
    class Constant(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.tensor([0.0, 1.0]))

        def forward(self, images):
            return self.weight.expand(len(images), 2)

    batches = [(torch.zeros(3, 1), torch.tensor([1, 1, 0])), (torch.zeros(2, 1), torch.tensor([1, 1]))]
    loss, error = reference.evaluate(Constant(), batches)
    assert error == pytest.approx(20.0)
    assert loss == pytest.approx((4 * np.log(1 + np.exp(-1)) + np.log(1 + np.e)) / 5)


def test_curves_are_of_the_held_out_images_and_the_result_is_of_the_test_images(monkeypatch):
    datamodule = DigitsDataModule(batch_size=64, validation=100)
    datamodule.setup()
    sizes, create = [], reference.create_loader
    monkeypatch.setattr(
        reference,
        "create_loader",
        lambda images, *rest, **options: (
            sizes.append(len(images)) or create(images.repeat(1, 1, 1, 3), *rest, **options)
        ),
    )
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 10))
    rows = []
    tested = reference.train_and_test(network, datamodule, dataclasses.replace(RECIPES[0], epochs=1), rows.append)
    assert sizes == [1197, 100, 500]
    assert rows[0]["eval_error"] % 1 == pytest.approx(0, abs=1e-9)
    assert tested["test_loss"] != rows[0]["eval_loss"]


def test_a_loss_that_is_not_finite_ends_the_run():
    datamodule = DigitsDataModule(batch_size=64)
    datamodule.setup()
    images = datamodule.arrays.train_images.repeat(1, 1, 1, 3)
    arrays = dataclasses.replace(datamodule.arrays, train_images=images, test_images=images[:9])
    datamodule.arrays = arrays
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 10))
    with torch.no_grad():
        network[1].weight.fill_(torch.nan)
    with pytest.raises(DivergedError, match="loss is nan in epoch 0, batch 0"):
        reference.train_and_test(network, datamodule, RECIPES[0], lambda row: None)
