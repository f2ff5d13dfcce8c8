import re

import numpy as np

from benchmark.experiments.cifar import EXPERIMENT
from benchmark.ledger import read_records
from benchmark.report.curve_plots import curve, write_learning_curves

from .conftest import JPEG


def test_one_picture_a_section(results, add_run):
    for row in ("cifar_resnet20", "cifar_hbnet20"):
        for seed in (0, 1):
            add_run(row, 5.0 + seed, seed=seed)
    add_run(data=JPEG, profile="short")
    paths = write_learning_curves(EXPERIMENT, results)
    assert [path.name for path in paths] == [
        "cifar-curves-paper.svg",
        "cifar-curves-paper.png",
        "cifar-curves-short-jpeg-copy.svg",
        "cifar-curves-short-jpeg-copy.png",
    ]
    assert all(path.parent == results / "plots" for path in paths)
    before = [path.read_bytes() for path in paths]
    assert [path.read_bytes() for path in write_learning_curves(EXPERIMENT, results)] == before


def test_curve_has_a_line_for_each_seed(results, add_run):
    for seed in (0, 1):
        add_run(error=5.0 + seed, seed=seed)
    epochs, errors = curve(read_records(results, "cifar"))
    assert epochs.tolist() == [1, 2, 3, 4, 5]
    np.testing.assert_allclose(errors, [[45, 35, 25, 15, 5], [46, 36, 26, 16, 6]])


def test_error_of_zero_can_be_drawn(results, add_run):
    add_run(error=0.0)
    assert len(write_learning_curves(EXPERIMENT, results)) == 2


def test_panels_without_a_data_set_are_hidden(results, add_run):
    """Three panels take two lines of two."""
    for dataset, data in [("cifar10", "CIFAR-10"), ("cifar10+", "CIFAR-10"), ("cifar100", "CIFAR-100")]:
        add_run(dataset=dataset, data=data)
    picture, _ = write_learning_curves(EXPERIMENT, results)
    assert len(re.findall('id="axes_', picture.read_text())) == 3


def test_more_lines_than_colours_go_beside_their_baselines(results, add_run):
    """Those without another line beside them share the last panel."""

    def panels(*rows):
        for row in rows:
            add_run(row)
        picture, _ = write_learning_curves(EXPERIMENT, results)
        return len(re.findall('id="axes_', picture.read_text()))

    heavy_ball = ("cifar_hbnet20", "cifar_hbnet20-fixed", "cifar_hbnet20-free")
    nesterov = ("cifar_agdresnet20", "cifar_agdresnet20-multi_step")
    assert panels("cifar_resnet20", *heavy_ball, *nesterov, "cifar_plain20") == 1
    assert panels("cifar_hbnet20-fixed_point") == 2
    assert panels("cifar_resnet56") == 3
    assert panels("cifar_densenet22") == 3


def test_nothing_to_draw(results, add_run):
    add_run(status="diverged")
    assert write_learning_curves(EXPERIMENT, results) == []
