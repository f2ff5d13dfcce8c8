"""What a run measures of itself."""

import math

from benchmark import energy, grid, run
from benchmark.experiments import get_experiment
from benchmark.ledger import RunFolder


def test_energy_that_one_epoch_lacks_is_unknown(monkeypatch, tmp_path):
    ((cell, _),) = grid.select_cells(get_experiment("quickstart"), tmp_path, "cpu", "smoke", only=["plain14"])
    readings = iter([0.0, 1.5, 1.5, 4.0, 0.0, 1.0, None, None])
    counters = ([] if joules is None else [energy.Counter(joules)] for joules in readings)
    monkeypatch.setattr(energy, "INTERVAL", math.inf)
    monkeypatch.setattr(energy, "read_counters", lambda device: next(counters))
    results = [run.execute(RunFolder(tmp_path, cell, seed), tmp_path, "cpu", lambda row: None) for seed in (0, 1)]
    assert [result["joules"] for result in results] == [4.0, None]
    assert [row["joules"] for row in RunFolder(tmp_path, cell, 0).read_metrics()] == [1.5, 2.5]
