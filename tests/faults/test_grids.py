"""One bad run or two drivers: the others are done, each exactly once, and each failure is named."""

import json

import pytest

SMOKE = ("run", "quickstart", "--profile", "smoke", "--seeds", "0")
TINY, OTHER = "feedforward:depth=2", "feedforward:depth=3"
DEPTH = "cifar_hbnet20:depth=9"


def results(folder):
    return {path.parent.name: json.loads(path.read_text()) for path in folder.glob("runs/*/*/result.json")}


def test_out_of_memory_fails_its_run_and_the_others_go_on(command, tmp_path):
    message = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 1.00 GiB"
    words = (*SMOKE, "--network", "cifar_hbnet20:depth=8", TINY, "--results-dir", tmp_path)
    ended = command(*words, injection=("out_of_memory", "cifar_hbnet20", message))
    assert ended.status == 1
    assert "Tried to allocate 2.00 GiB" in ended.err
    failed, done = sorted(results(tmp_path).values(), key=lambda result: result["status"] == "done")
    assert (failed["status"], done["status"]) == ("failed", "done")
    assert message in failed["reason"]
    assert "warning: the time of cifar_hbnet20:depth=8@digits cannot be measured: CUDA out of memory" in ended.err
    assert command(*words).status == 0
    (again,) = (r for r in results(tmp_path).values() if r["run_id"] == failed["run_id"])
    assert (again["status"], again["spec"]) == ("done", failed["spec"])


def test_a_network_that_cannot_be_built_is_named_and_the_others_are_run(command, tmp_path):
    ended = command(*SMOKE, "--network", TINY, DEPTH, OTHER, "--results-dir", tmp_path)
    assert ended.status == 1
    assert ended.err.splitlines() == [
        f"not done: {DEPTH}@digits: cifar_hbnet20: depth 9 is not 6n + 2; the nearest are 8 and 14"
    ]
    assert [result["status"] for result in results(tmp_path).values()] == ["done", "done"]
    planned = command("plan", *SMOKE[1:], "--network", TINY, DEPTH, "--results-dir", tmp_path)
    assert planned.status == 1
    assert f"not done: {DEPTH}@digits" in planned.err


def test_no_network_that_can_be_built_is_a_mistake(command, tmp_path):
    ended = command(*SMOKE, "--network", DEPTH, "--results-dir", tmp_path)
    assert ended.status == 2
    assert ended.err.splitlines() == ["error: cifar_hbnet20: depth 9 is not 6n + 2; the nearest are 8 and 14"]


def test_two_drivers_do_each_run_once(command, tmp_path):
    networks = [f"feedforward:depth={depth}" for depth in range(1, 5)]
    words = ("run", "quickstart", "--seeds", "0", "--network", *networks, "--results-dir", tmp_path)
    drivers = command.copies(2, *words)
    assert {driver.status for driver in drivers} <= {0, 1}
    assert all(result["status"] == "done" for result in results(tmp_path).values())
    assert len(results(tmp_path)) == len(networks)
    trained = [line for driver in drivers for line in driver.out.splitlines() if "test error" in line]
    assert sum(" in " in line and "%" in line for line in trained) == len(networks)
    for driver in drivers:
        skipped = [line for line in driver.err.splitlines() if "another process is running it" in line]
        assert bool(skipped) == (driver.status == 1)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_loss_that_is_not_finite_is_never_a_number_in_a_table(command, tmp_path, value):
    words = ("run", "quickstart", "--seeds", "0", "--network", TINY, "--results-dir", tmp_path)
    ended = command(*words, injection=("loss_of", value))
    assert ended.status == 1
    (result,) = results(tmp_path).values()
    assert result["status"] == "diverged"
    assert "epoch 1, batch 0" in result["reason"]
    assert "test_error" not in result
    assert len((next(tmp_path.glob("runs/*/*/metrics.csv"))).read_text().splitlines()) == 2
    table = (tmp_path / "tables/quickstart.md").read_text()
    assert "| diverged |" in table.replace("  ", "")


def test_weights_that_are_not_finite_are_never_a_number_in_a_table(command, tmp_path):
    """The last update spoils them, and only the test sees it."""
    words = ("run", "quickstart", "--seeds", "0", "--network", TINY, "--results-dir", tmp_path)
    ended = command(*words, injection=("spoil_the_last_update",))
    assert ended.status == 1
    (result,) = results(tmp_path).values()
    assert (result["status"], result["reason"]) == ("diverged", "loss is nan in the test")
    assert "test_error" not in result


def test_a_clusters_variables_change_nothing(command, tmp_path):
    cluster = {
        "SLURM_PROCID": "1",
        "SLURM_LOCALID": "1",
        "SLURM_NTASKS": "2",
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NAME": "train",
        "SLURM_NODELIST": "node",
        "RANK": "1",
        "LOCAL_RANK": "1",
        "WORLD_SIZE": "2",
    }
    words = (*SMOKE, "--network", TINY, "--results-dir", tmp_path)
    assert command(*words, environment=cluster).status == 0
    (result,) = results(tmp_path).values()
    assert result["epochs"] == 2
    (metrics,) = tmp_path.glob("runs/*/*/metrics.csv")
    assert len(metrics.read_text().splitlines()) == 3
