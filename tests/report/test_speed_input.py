"""Cores that feed a GPU follow from measured rates alone."""

import pandas as pd
import pytest

from benchmark.errors import UserError
from benchmark.report.speed_input import cores_needed, write_input

ENVIRONMENT = {
    "device": "CPU: AMD EPYC, 2 threads",
    "versions": {"torch": "2.9.0"},
    "git": {"commit": "0123456789", "dirty": False},
}
ROWS = [
    {"data": "made", "images": 32, "kB": 106.0, "from": "files", "images/s": 500.0},
    {"data": "made", "images": 32, "kB": 106.0, "from": "resized cache", "images/s": 1500.0},
]


def table(results, asked=None):
    _, path = write_input(results, ROWS, asked, ENVIRONMENT)
    assert path.name == "speed-cpu-amd-epyc-2-threads-input.md"
    return path.read_text()


@pytest.mark.parametrize(("rate", "cores"), [(499, 1), (500, 1), (501, 2), (2500, 5)])
def test_whole_cores_keep_up(rate, cores):
    assert cores_needed(rate, 500.0) == cores


def test_no_rate_is_made_up(tmp_path):
    text = table(tmp_path)
    assert "Cores that feed" not in text
    assert "No GPU's rate on photographs is measured" in text


def test_measured_and_asked_rates(tmp_path):
    (tmp_path / "tables").mkdir()
    for device in ("gpu-nvidia-h100", "cpu-amd-epyc"):
        row = {
            "network": "imagenet_resnet50",
            "precision": "bf16-mixed",
            "batch size": 256,
            "ours images/s": 2750.0,
        }
        pd.DataFrame([row]).to_csv(tmp_path / "tables" / f"speed-{device}-torchvision.csv", index=False)
    lines = [line for line in table(tmp_path, asked=900.0).splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert ["imagenet_resnet50, gpu-nvidia-h100, bf16-mixed, batch 256", "2,750", "6", "2"] in cells
    assert ["900 images/s", "900", "2", "1"] in cells
    assert len([line for line in lines if "imagenet_resnet50" in line]) == 1, "a CPU is not fed"


def test_a_table_that_cannot_be_read(tmp_path):
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "speed-gpu-x-torchvision.csv").write_text("not,a table\n1,2\n")
    with pytest.raises(UserError, match="is not a table of speeds"):
        table(tmp_path)


def test_other_photographs_stay(tmp_path):
    write_input(tmp_path, [{**row, "data": "ImageNet"} for row in ROWS], None, ENVIRONMENT)
    later = {**ENVIRONMENT, "git": {"commit": "abcdef0123", "dirty": False}}
    path, text = write_input(
        tmp_path, [{**row, "images/s": 2 * row["images/s"]} for row in ROWS], None, ENVIRONMENT
    )
    path, text = write_input(tmp_path, ROWS, 3000.0, later)
    table = pd.read_csv(path)
    assert list(zip(table["data"], table["images/s"], table["commit"], strict=True)) == [
        ("ImageNet", 500, "0123456"),
        ("ImageNet", 1500, "0123456"),
        ("made", 500, "abcdef0"),
        ("made", 1500, "abcdef0"),
    ]
    assert "commit 0123456, abcdef0." in text.read_text()
    (needed,) = (line for line in text.read_text().splitlines() if "3,000 images/s" in line)
    assert needed.replace(" ", "").split("|")[3:-1] == ["6", "2", "6", "2"]
