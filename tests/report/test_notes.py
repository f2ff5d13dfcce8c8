"""What is told under a table."""

import re

from benchmark.report.tables import load_results

from .tables import text


def test_what_pairs_have_in_common_and_lack_is_told(results, add_run):
    xeon, other_threads = {"device": "CPU: Intel Xeon, 2 threads"}, {"device": "CPU: AMD EPYC, 1 thread"}
    for seed in range(4):
        add_run("cifar_resnet20", 5.0 + seed, seed=seed)
    for seed, device in enumerate([{}, xeon, other_threads]):
        add_run("cifar_hbnet20", 4.9 + 2 * seed, seed=seed, **device)
    document = text(results)
    assert "share its runs" not in document
    assert "Fewer pairs than seeds: HB-Net-20 on C10+ 3 (its seeds 0, 1, 2; baseline 0, 1, 2, 3)." in document
    assert "Pairs whose runs are of two kinds of device: HB-Net-20 on C10+ seed 1." in document
    add_run("cifar_hbnet20-fixed", 5.1)
    assert "Rows with one baseline share its runs: their differences are not independent." in text(results)


def test_seeds_needed_are_those_of_the_tables_level(results, add_run):
    """More comparisons ask for more seeds of the same difference."""

    def needed():
        (line,) = [line for line in text(results).splitlines() if "80 % power" in line]
        level, seeds = re.search(r"a level of (.*), if.*: HB-Net-20 on C10\+ (\d+)", line).groups()
        return level, int(seeds)

    for seed in range(3):
        add_run("cifar_resnet20", 5.0, seed=seed)
        add_run("cifar_hbnet20", (5.2, 5.4, 4.9)[seed], seed=seed)
    level, alone = needed()
    assert level == "5 %"
    for seed in range(3):
        add_run("cifar_hbnet20-fixed", (5.1, 5.9, 7.2)[seed], seed=seed)
        add_run("cifar_hbnet20-free", (5.3, 5.8, 6.9)[seed], seed=seed)
    level, of_three = needed()
    assert level == "5 % / 3"
    assert of_three > alone


def test_the_test_sets_own_noise_is_told(results, add_run):
    add_run("cifar_resnet20", 10.0)
    assert "C10+: 10,000 test images; other ones would move an error of 10.0 % by 0.30 points" in text(results)


def test_missing_seeds_are_named(results, add_run):
    for seed in (0, 1):
        add_run("cifar_resnet20", seed=seed)
    assert "cifar_resnet20 on C10+: 2 of 3 seeds (missing 2)" in text(results)
    add_run("cifar_resnet20", seed=2)
    assert "missing" not in text(results)


def test_code_and_machine_are_named(results, add_run):
    add_run(seed=0)
    add_run(seed=1, git={"commit": "fedcba9876543210", "dirty": True}, device="GPU: NVIDIA H200")
    document = text(results)
    assert "Mixes commits 0123456, fedcba9 (with uncommitted changes)." in document
    assert "Device: CPU: AMD EPYC, 2 threads; GPU: NVIDIA H200; costs are of CPU: AMD EPYC, 2 threads." in document
    assert "Versions: torch 2.9.0, pytorch-lightning 2.6.6." in document
    assert "compiling" not in document
    add_run(seed=2, recipe={"compile": True})
    assert "costs are of CPU: AMD EPYC, 2 threads. Time holds what compiling took." in text(results)
    assert "Result = last epoch's test error, never the best." in document


def test_a_run_that_went_on_elsewhere_is_told(results, add_run):
    gpu = {"device": "GPU: NVIDIA H200", "versions": {"torch": "2.9.0"}, "git": {"commit": "fedcba9876543210"}}
    cpu = {
        "device": "CPU: AMD EPYC, 1 thread",
        "versions": {"torch": "2.14.1"},
        "git": {"commit": "fedcba9876543210"},
    }
    add_run("cifar_resnet20", seed=0, parts=[{**gpu, "epochs": 7}, {**cpu, "epochs": 8}])
    add_run("cifar_hbnet20", seed=0, **gpu)
    document = text(results)
    told = "Resumed on another device, with other versions or at another commit: cifar_resnet20 on C10+, seed 0."
    assert told in document
    assert "Commit fedcba9." in document
    assert "Device: GPU: NVIDIA H200; GPU: NVIDIA H200 and CPU: AMD EPYC, 1 thread; costs are of" in document
    assert "Versions: torch 2.14.1, 2.9.0," in document
    assert "Pairs whose runs are of two kinds of device: HB-Net-20 on C10+ seed 0." in document
    (run,) = load_results(results).query("row == 'cifar_resnet20'").itertuples()
    assert (run.device, run.commit) == ("GPU: NVIDIA H200 and CPU: AMD EPYC, 1 thread", "fedcba9876543210")


def test_a_run_that_stopped_and_was_done_otherwise_is_not_told(results, add_run):
    """E.g. on another device, so that its id is another."""
    add_run(seed=0, recipe={"precision": "bf16-mixed"}, status="interrupted")
    add_run(seed=0)
    add_run(seed=1, status="interrupted")
    document = text(results)
    assert "interrupted: cifar_resnet20 on C10+, seed 0" not in document
    assert "interrupted: cifar_resnet20 on C10+, seed 1" in document
