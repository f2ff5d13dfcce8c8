"""The committed tables are what the committed records say, to the byte."""

import shutil
import subprocess
from pathlib import Path

import pytest

from benchmark.experiments import EXPERIMENTS
from benchmark.report.tables import write_tables

ROOT = Path(__file__).parents[2]
RESULTS = Path("results")


def committed_files(experiment: str) -> list[Path]:
    """Files of an experiment's runs that git tracks, relative to the root; outside a checkout, all there are."""
    runs = RESULTS / "runs" / experiment
    try:
        command = ["git", "ls-files", "-z", "--", str(runs)]
        names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return sorted(path.relative_to(ROOT) for path in (ROOT / runs).glob("*/*.*") if path.is_file())
    return [Path(name) for name in names.split("\0") if name]


@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if committed_files(name)])
def test_tables_follow_from_the_records(name, tmp_path):
    for file in committed_files(name):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, tmp_path / file)
    for path in write_tables(EXPERIMENTS[name], tmp_path / RESULTS, ROOT / RESULTS / "paper"):
        committed = ROOT / path.relative_to(tmp_path)
        assert path.read_bytes() == committed.read_bytes(), f"{committed} is stale: run `make tables`"
