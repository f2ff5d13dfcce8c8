"""Runs that held images out: a section of their own, their own error, and what it chooses."""

import math
from dataclasses import replace

import pandas as pd
import pytest

from benchmark.experiments.cifar import EXPERIMENT
from benchmark.report.tables import load_results, write_tables
from benchmark.specs import Cell

from .conftest import JPEG, PAPER, curve, make_cell
from .tables import line_of, text


def test_runs_with_a_validation_split_stand_apart(results, add_run):
    cell = make_cell(EXPERIMENT, "cifar_resnet20", "cifar10+", "short", JPEG)
    add_run(error=10.0, cell=cell, data=JPEG)
    add_run(error=20.0, cell=replace(cell, data=replace(cell.data, validation=5000)), data=JPEG)
    document = text(results)
    assert "## short profile, CIFAR-10 (JPEG copy), 5000 held out" in document
    assert "C10+: 5000 training images held out for validation" in document
    means = [line_of(part, "ResNet-20")[1] for part in document.split("\n## ")[1:]]
    assert means == ["10.00 (1)", "20.00 (1)"]


def test_a_validation_split_has_its_own_error(results, add_run):
    """The last epoch's on the images held out, not the best, beside the test error; nothing where none were."""
    cell = make_cell(EXPERIMENT, "cifar_resnet20", "cifar10+", "short", JPEG)
    cell = replace(cell, data=replace(cell.data, validation=5000))
    for seed, (best, last, test) in enumerate([(20.0, 21.0, 25.0), (22.0, 23.0, 28.0)]):
        add_run(error=test, seed=seed, cell=cell, data=JPEG, metrics=[*curve(best), *curve(last, epochs=1)])
    add_run("cifar_hbnet20", profile="short", data=JPEG)
    without, held_out = text(results).split("\n## ")[1:]
    assert line_of(held_out, "ResNet-20")[1:3] == ["26.50 ± 2.12 (2)", "22.00 ± 1.41 (2)"]
    assert "validation" not in without
    (path, *_) = write_tables(EXPERIMENT, results, PAPER)
    frame = pd.read_csv(path)
    assert frame["held out"].tolist() == [0, 5000]
    assert frame["C10+ validation mean"].tolist() == pytest.approx([math.nan, 22.0], nan_ok=True)
    runs = load_results(results).sort_values(["held_out", "seed"])
    assert runs["validation_error"].tolist() == pytest.approx([math.nan, 21.0, 23.0], nan_ok=True)


def test_a_run_without_its_metrics_has_no_validation_error(results, add_run):
    cell = make_cell(EXPERIMENT, "cifar_resnet20", "cifar10+", "short", JPEG)
    cell = replace(cell, data=replace(cell.data, validation=5000))
    add_run(cell=cell, data=JPEG, metrics=[])
    assert line_of(text(results), "ResNet-20")[1:3] == ["10.00 (1)", "0.27 M"]


def held_out(row: str) -> Cell:
    cell = make_cell(EXPERIMENT, row, "cifar10+", "short", JPEG)
    return replace(cell, data=replace(cell.data, validation=5000))


def test_what_the_held_out_images_choose(results, add_run):
    """By hand, among the forms with the most seeds; test errors would choose the other way round."""
    errors = {
        "residual-fixed": (20.0, 22.0),
        "residual-learned": (19.0, 20.5),
        "fixed_point-fixed": (21.0, 20.0),
        "fixed_point-learned": (18.0,),
    }
    for form, values in errors.items():
        for seed, error in enumerate(values):
            row = f"cifar_agdnet22-{form}"
            add_run(error=100 - error, seed=seed, cell=held_out(row), data=JPEG, metrics=curve(error))
    add_run(error=50.0, cell=held_out("cifar_densenet22"), data=JPEG, metrics=curve(1.0))
    add_run("cifar_hbnet20", profile="short", data=JPEG)
    assert (
        "- C10+: on the held-out images AGD-Net (k=12, L=22), residual, learned has the lowest error of the rows "
        "with most seeds that are compared with DenseNet (k=12, L=22), 19.75 over seeds 0, 1; "
        "AGD-Net (k=12, L=22), fixed point, learned −1.00 (1 seed); "
        "AGD-Net (k=12, L=22), fixed point, fixed +0.75 [−15.13, +16.63]; "
        "AGD-Net (k=12, L=22), residual, fixed +1.25 [−1.93, +4.43] (intervals not corrected for their number)."
    ) in text(results).splitlines()


def test_forms_with_as_many_seeds_are_ranked_by_those_that_all_of_them_have(results, add_run):
    for form, errors in {"residual-fixed": {0: 20.0, 1: 10.0}, "residual-learned": {0: 19.0, 2: 30.0}}.items():
        for seed, error in errors.items():
            cell = held_out(f"cifar_agdnet22-{form}")
            add_run(error=50.0, seed=seed, cell=cell, data=JPEG, metrics=curve(error))
    assert "AGD-Net (k=12, L=22), residual, learned has the lowest error" in text(results)
    assert "19.00 over seed 0; AGD-Net (k=12, L=22), residual, fixed +1.00 (1 seed)" in text(results)


@pytest.mark.parametrize("seeds", [(0, 0), (0, 1)], ids=["one form", "no shared seed"])
def test_nothing_is_chosen_without_two_forms_of_one_seed(results, add_run, seeds):
    forms = ("residual-fixed",) if len(set(seeds)) == 1 else ("residual-fixed", "residual-learned")
    for form, seed in zip(forms, seeds, strict=False):
        add_run(error=20.0, seed=seed, cell=held_out(f"cifar_agdnet22-{form}"), data=JPEG)
    assert "on the held-out images" not in text(results)
