"""One run after another in one process."""

import gc
import weakref
from dataclasses import replace

from benchmark import energy, grid, run
from benchmark.experiments import get_experiment
from benchmark.ledger import RunFolder


def test_a_run_does_not_keep_the_memory_of_the_one_before(monkeypatch, tmp_path):
    models, alive = [], []

    def create_model(*arguments):
        alive.append([model() is not None for model in models])
        model = original(*arguments)
        models.append(weakref.ref(model))
        return model

    original = run.create_model
    monkeypatch.setattr(run, "create_model", create_model)
    ((cell, _),) = grid.select_cells(get_experiment("quickstart"), tmp_path, "cpu", "smoke", only=["plain14"])
    gc.disable()  # or it might clean up by chance
    try:
        for seed in range(3):
            folder = RunFolder(tmp_path, replace(cell, recipe=replace(cell.recipe, epochs=1)), seed)
            assert run.execute(folder, tmp_path, "cpu", lambda row: None)["status"] == "done"
    finally:
        gc.enable()
    assert alive == [[], [False], [False, False]]


def test_energy_that_one_epoch_lacks_is_unknown(monkeypatch, tmp_path):
    ((cell, _),) = grid.select_cells(get_experiment("quickstart"), tmp_path, "cpu", "smoke", only=["plain14"])
    readings = iter([0.0, 1.5, 1.5, 4.0, 0.0, 1.0, None, None])
    monkeypatch.setattr(energy, "read_joules", lambda device: next(readings))
    results = [run.execute(RunFolder(tmp_path, cell, seed), tmp_path, "cpu", lambda row: None) for seed in (0, 1)]
    assert [result["joules"] for result in results] == [4.0, None]
    assert [row["joules"] for row in RunFolder(tmp_path, cell, 0).read_metrics()] == [1.5, 2.5]
