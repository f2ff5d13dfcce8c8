"""The losses of the first 20 steps of each family: ``python -m tests.golden.losses`` writes losses.csv anew."""

import csv
from pathlib import Path

import torch

from datamodules import DigitsDataModule
from lightning_modules import LitClassifier

PATH = Path(__file__).with_suffix(".csv")
STEPS = 20
FAMILIES = {
    "plain": ("cifar_plain20", {"depth": 8}),
    "resnet": ("cifar_resnet20", {"depth": 8}),
    "hbnet": ("cifar_hbnet20", {"depth": 14}),
    "agdresnet": ("cifar_agdresnet20", {"depth": 14}),
    "densenet": ("cifar_densenet40", {"depth": 10, "dropout": 0.2}),
    "agdnet": ("cifar_agdnet40", {"depth": 10}),
    "feedforward": ("feedforward", {"method": "triple_momentum", "depth": 5}),
}
RECIPE = {"learning_rate": 0.005, "epochs": 1}


def losses(family: str) -> list[float]:
    """Of plain training on the digits, batch 64, seed 0, float32, one thread."""
    name, options = FAMILIES[family]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        torch.manual_seed(0)
        model = LitClassifier(name, network_options={**options, "in_channels": 1}, recipe=RECIPE)
        datamodule = DigitsDataModule(batch_size=64, seed=0)
        datamodule.setup()
        optimizer = torch.optim.SGD(model.parameters(), lr=RECIPE["learning_rate"], momentum=0.9, nesterov=True)
        found = []
        for _, (images, labels) in zip(range(STEPS), datamodule.train_dataloader(), strict=False):
            loss = torch.nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            found.append(loss.item())
        return found
    finally:
        torch.set_num_threads(threads)


def read() -> dict[str, list[float]]:
    """The golden losses by family."""
    with PATH.open() as file:
        return {row[0]: [float(value) for value in row[1:]] for row in csv.reader(file)}


if __name__ == "__main__":
    with PATH.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([[name, *losses(name)] for name in FAMILIES])
