"""Norms of gradients: those of autograd, at the first and the last step."""

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from benchmark.gradients import GradientNorms
from lightning_modules import LitClassifier

STEPS = 3


def test_norms_are_of_the_first_and_the_last_step(tmp_path):
    torch.manual_seed(0)
    data = TensorDataset(torch.randn(STEPS * 8, 3, 8, 8), torch.randint(0, 10, (STEPS * 8,)))
    model = LitClassifier("cifar_hbnet20", network_options={"depth": 14}, channels_last=False)
    images, labels = data[:8]
    F.cross_entropy(model.network(images), labels).backward()
    expected = {
        name.removesuffix(".weight"): parameter.grad.norm().item()
        for name, parameter in model.network.named_parameters()
        if parameter.ndim in (2, 4)
    }
    model.zero_grad()
    norms = GradientNorms()
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=2,
        callbacks=[norms],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    model.on_after_backward = lambda: seen.append(model.network.get_submodule(name).weight.grad.norm().item())
    name, seen = next(iter(expected)), []
    trainer.fit(model, DataLoader(data, batch_size=8))
    assert list(norms.norms) == list(expected)
    assert {n: value["start"] for n, value in norms.norms.items()} == pytest.approx(expected, rel=1e-4)
    assert len(seen) == 2 * STEPS
    assert norms.norms[name] == {"start": pytest.approx(seen[0]), "end": pytest.approx(seen[-1])}
