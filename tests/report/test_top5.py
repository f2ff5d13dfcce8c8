"""The ImageNet table: top-1 and top-5 beside the published numbers, which only ImageNet itself is compared with."""

import csv

from benchmark.experiments.imagenet import EXPERIMENT
from benchmark.report.tables import console_text, write_tables

from .conftest import PAPER

DATA = "ImageNet"


def add(add_run, row, error, top5, data=DATA, seed=0):
    add_run(
        row,
        error,
        seed=seed,
        dataset="imagenet",
        data=data,
        experiment=EXPERIMENT,
        test_top5_error=top5,
        test_images=50_000,
    )


def cells(document: str, label: str) -> list[str]:
    lines = ([cell.strip() for cell in line.strip("|").split("|")] for line in document.splitlines())
    return next(line for line in lines if line[0] == label)


def test_both_errors_stand_beside_the_published_ones(results, add_run):
    for seed in (0, 1):
        add(add_run, "imagenet_resnet34", 26.5 + seed, 8.5, seed=seed)
        add(add_run, "imagenet_hbnet34", 26.0 + 2 * seed, 8.0 + seed, seed=seed)
    document = console_text(EXPERIMENT, results, PAPER)
    header = cells(document, "model")
    ours = dict(zip(header, cells(document, "HB-Net-34"), strict=True))
    assert ours["top-1"] == "27.00 ± 1.41 (2)"
    assert ours["top-1 published"] == "26.33†"
    assert ours["top-1 gap"] == "+0.67"
    assert ours["top-5"] == "8.50 ± 0.71 (2)"
    assert ours["top-5 published"] == "8.56†"
    assert ours["top-5 gap"] == "−0.06"
    assert "† published number not checked" in document
    assert "the paper's recipe" in document
    assert "milestones 0.3333, 0.6667" in document


def test_the_csv_has_the_top5_error(results, add_run):
    add(add_run, "imagenet_resnet34", 26.5, 8.5)
    path = next(path for path in write_tables(EXPERIMENT, results, PAPER) if path.suffix == ".csv")
    with path.open() as file:
        (line,) = csv.DictReader(file)
    assert (line["imagenet top-5 mean"], line["imagenet top-5 published"]) == ("8.5", "8.74")
    assert line["imagenet top-5 published provenance"].startswith("verified")
    assert float(line["imagenet top-5 gap"]) == -0.24


def test_a_cache_of_imagenet_is_a_section_of_its_own_with_published_numbers(results, add_run):
    add(add_run, "imagenet_resnet34", 26.5, 8.5)
    add(add_run, "imagenet_resnet34", 27.5, 9.5, f"{DATA} (pre-resized to 256)")
    document = console_text(EXPERIMENT, results, PAPER)
    assert "## paper profile, ImageNet\n" in document
    assert "## paper profile, ImageNet (pre-resized to 256)\n" in document
    assert document.count("26.73") == 2


def test_other_images_stand_beside_no_published_number(results, add_run):
    add(add_run, "imagenet_resnet34", 20.0, 3.0, "image folder imagenette2")
    add(add_run, "imagenet_resnet34", 20.0, 3.0, "subset of ImageNet, 128,000 images of 1,000 classes")
    document = console_text(EXPERIMENT, results, PAPER)
    assert "published" not in document
    assert "26.73" not in document
    assert "image folder imagenette2" in document
    assert "subset of ImageNet, 128,000 images" in document
