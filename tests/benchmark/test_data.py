"""What a folder of images stands for."""

from dataclasses import replace

import pytest

from benchmark import data, grid
from benchmark.data import CIFAR_SIZES, find_source
from benchmark.errors import UserError
from benchmark.experiments import get_experiment
from datamodules.images import scan_images
from tests.datamodules.folders import png, write_folder

CLASSES = [f"c{i}" for i in range(10)]


def cifar_like(path, train=1):
    """Ten classes, each with so many training images and a test image."""
    image, counts = png(size=(32, 32)), {"train": train, "test": 1}
    numbers = ((split, label, i) for split, count in counts.items() for label in CLASSES for i in range(count))
    return write_folder(path, {f"{split}/{label}/{i}.png": image for split, label, i in numbers})


@pytest.mark.parametrize(
    ("sizes", "name"), [(CIFAR_SIZES, "CIFAR-10 (PNG copy)"), ((45_000, 10_000), "image folder street")]
)
def test_a_copy_has_as_many_images_as_cifar(tmp_path, monkeypatch, sizes, name):
    """Ten classes alone make no CIFAR-10."""
    path = cifar_like(tmp_path / "street")
    info = replace(scan_images(path), num_train=sizes[0], num_test=sizes[1])
    monkeypatch.setattr(data, "scan_images", lambda _: info)
    assert find_source("cifar10", path).name == name


def test_the_official_release_goes_before_other_images_beside_it(tmp_path):
    cifar_like(tmp_path / "other")
    assert find_source("cifar10", tmp_path).name == "image folder " + tmp_path.name
    find_source.cache_clear()
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"")
    assert find_source("cifar10", tmp_path).name == "CIFAR-10"
    assert find_source("cifar100", tmp_path).name == "CIFAR-100"


def test_data_sets_that_a_folder_does_not_hold_are_left_out_with_a_note(tmp_path):
    cifar_like(tmp_path, train=7)  # one batch
    words, notes = (get_experiment("cifar"), tmp_path, "cpu"), []
    cells = grid.select_cells(*words, only=["cifar_resnet20"], note=notes.append)
    assert {cell.data.name for cell, _ in cells} == {"cifar10"}
    assert notes == [f"cifar100 left out: {tmp_path} holds images of another data set"]
    with pytest.raises(UserError, match="holds images of another data set than cifar100"):
        grid.select_cells(*words, only=["cifar_resnet20"], datasets=["cifar10", "cifar100"], note=notes.append)


def test_a_row_named_as_a_network_keeps_its_protocol(tmp_path):
    """Without augmentation dense networks drop out, however and however often they are asked for."""
    words = (get_experiment("cifar"), tmp_path, "cpu")
    ((by_row, _),) = grid.select_cells(*words, only=["cifar_densenet40"], datasets=["cifar10"])
    ((by_network, _),) = grid.select_cells(*words, networks=["cifar_densenet40"] * 2, datasets=["cifar10"] * 2)
    assert by_network == by_row
    assert by_network.network.options == {"dropout": 0.2}
