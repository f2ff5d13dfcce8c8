import csv
import json
import re
import subprocess
import sys
from dataclasses import replace

import pandas as pd
import pytest

from benchmark.errors import UserError
from benchmark.experiments import quickstart
from benchmark.experiments.cifar import EXPERIMENT
from benchmark.ledger import RunFolder
from benchmark.report.sections import read_sections
from benchmark.report.tables import console_text, load_results, write_tables

from .conftest import JPEG, PAPER, curve, make_cell
from .tables import line_of, tables, text

OWN = ("schema_version", "run_id", "status", "experiment", "seed", "spec", "sha256", "metrics_sha256")
SUFFIXES = ["csv", "md", "tex", "html"]


def test_numbers_by_hand(results, add_run):
    for seed, (ours, theirs) in enumerate([(4.0, 5.0), (4.0, 6.0), (4.0, 7.0)]):
        add_run("cifar_hbnet20", ours, seed=seed)
        add_run("cifar_resnet20", theirs, seed=seed)
    document = text(results)
    header = line_of(document, "model")
    assert header == [
        "model",
        "baseline",
        "C10+",
        "C10+ difference",
        "parameters",
        "multiply-adds",
        "images/s",
        "memory",
        "time",
    ]
    sizes = ["0.27 M", "40.8 M", "25000", "1.00 GB", "10 s"]
    assert line_of(document, "ResNet-20") == ["ResNet-20", "—", "6.00 ± 1.00 (3)", "—", *sizes]
    assert line_of(document, "HB-Net-20") == [
        "HB-Net-20",
        "ResNet-20",
        "4.00 ± 0.00 (3)",
        "−2.00 [−4.48, +0.48]",
        *sizes,
    ]
    assert document.index("ResNet-20") < document.index("HB-Net-20")


def test_only_an_interval_without_zero_is_bold(results, add_run):
    for seed, theirs in enumerate([5.0, 5.1, 5.2]):
        add_run("cifar_resnet20", theirs, seed=seed)
        add_run("cifar_hbnet20", 4.0, seed=seed)
        add_run("cifar_hbnet20-fixed", 5.1, seed=seed)
    document = text(results)
    assert line_of(document, "HB-Net-20")[3] == "**−1.10 [−1.35, −0.85]**"
    assert "**" not in "".join(line_of(document, "HB-Net-20, fixed"))
    written = tables(results)
    assert rb"\textbf{$-$1.10" in written[".tex"]
    bold = re.findall(r'<td style="[^"]*font-weight: bold[^>]*>([^<]*)<', written[".html"].decode())
    assert bold == ["−1.10 [−1.35, −0.85]"]


def test_what_does_not_stand_after_the_correction_is_not_bold(results, add_run):
    """p = 0.019 alone is significant; as the least of three comparisons it is 0.057."""
    for seed in range(3):
        add_run("cifar_resnet20", 5.0 + seed, seed=seed)
        add_run("cifar_hbnet20", 4.0 + seed + (-0.2, 0, 0.27)[seed], seed=seed)
    assert line_of(text(results), "HB-Net-20")[3].startswith("**")
    for seed, (fixed, free) in enumerate([(5.1, 5.3), (5.9, 5.8), (7.2, 6.9)]):
        add_run("cifar_hbnet20-fixed", fixed, seed=seed)
        add_run("cifar_hbnet20-free", free, seed=seed)
    document = text(results)
    assert not line_of(document, "HB-Net-20")[3].startswith("**")
    assert "p of the differences (after Holm's correction): HB-Net-20 on C10+ 0.019 (0.057)" in document


def test_one_seed(results, add_run):
    add_run("cifar_resnet20", 5.0)
    add_run("cifar_hbnet20", 4.5)
    assert line_of(text(results), "HB-Net-20")[2:4] == ["4.50 (1)", "−0.50 (1 seed)"]


def test_costs_are_the_least(results, add_run):
    """The median epoch trains in 4 s at 1,000 images a second, the fastest in 2 s."""
    path = add_run(seed=0, images_per_second=1_000.0, seconds=7_200.0)
    assert line_of(text(results), "ResNet-20")[-3] == "1000"
    result = json.loads((path / "result.json").read_text())
    cell = make_cell(EXPERIMENT, "cifar_resnet20", "cifar10+", "paper", "CIFAR-10")
    folder = RunFolder(results, cell, 1)
    folder.write_metrics(
        [{**row, "seconds": 2.5 + row["epoch"], "train_seconds": 2 + row["epoch"]} for row in curve(10.0)]
    )
    least = {"seconds": 3_600, "peak_memory_bytes": 5 * 10**8, "joules": 7.2e6}
    values = {k: v for k, v in result.items() if k not in OWN} | least
    folder.write_result("done", values)
    document = text(results)
    assert line_of(document, "ResNet-20")[-3:] == ["0.50 GB", "60 min", "2000"]
    frame = pd.read_csv(write_tables(EXPERIMENT, results, PAPER)[0])
    assert frame["seconds_per_epoch"].item() == 2.0
    assert frame["hours"].item() == 1.0


def labels(document: str) -> list[str]:
    lines = [line.split("|")[1].strip() for line in document.splitlines() if line.startswith("| ")]
    return [label for label in lines if label != "model"]


def test_sorting_orders_the_terminal_only(results, add_run):
    for row, error in (("cifar_resnet20", 5.0), ("cifar_hbnet20", 7.0), ("cifar_plain20", 6.0)):
        add_run(row, error, seed=0, parameters=int(10 * error))
    add_run("cifar_agdresnet20", status="failed")
    add_run("cifar_densenet40", dataset="cifar10")
    written = tables(results)
    plain, by_error, downwards, by_size = (
        console_text(EXPERIMENT, results, None, *words)
        for words in ((), ("C10+ error mean",), ("C10+ error mean", True), ("parameters", True))
    )
    without = ["DenseNet (k=12, L=40)", "Nesterov-20"]
    assert labels(plain) == [without[0], "plain-20", "ResNet-20", "HB-Net-20", without[1]]
    assert labels(by_error) == ["ResNet-20", "plain-20", "HB-Net-20", *without], "rows without a value stand last"
    assert labels(downwards) == ["HB-Net-20", "plain-20", "ResNet-20", *without]
    assert labels(by_size)[-1] == "Nesterov-20"
    assert sorted(by_error.splitlines()) == sorted(plain.splitlines()), "the same lines and notes"
    assert tables(results) == written


def test_an_unknown_column_names_the_closest_first(results, add_run):
    add_run()
    with pytest.raises(
        UserError, match="no column 'C10 error maen' to sort by; valid, the closest first: C10\\+ error mean, "
    ):
        console_text(EXPERIMENT, results, None, "C10 error maen")


def test_published_numbers_and_their_mark(results, add_run):
    add_run("cifar_hbnet56")
    add_run("cifar_densenet40")
    document = text(results)
    assert "5.46†" in line_of(document, "HB-Net-56 (n=9)")
    assert "5.24" in line_of(document, "DenseNet (k=12, L=40)")
    assert "10.17†" in line_of(document, "HB-Net-56 (n=9)"), "data sets with a published number alone are shown"
    assert "- † published number not checked against the paper's PDF." in document
    add_run("cifar_hbnet56", profile="short")
    short = text(results).partition("## short profile")[2]
    assert "10.17†" not in line_of(short, "HB-Net-56 (n=9)"), "beside the paper's protocol alone"


def test_no_mark_without_unverified_numbers(results, add_run):
    add_run("cifar_densenet40")
    assert "†" not in text(results)
    assert "published" not in text(results, paper=None)


def test_profiles_and_copies_never_mix(results, add_run):
    add_run(error=5.0, seed=0)
    add_run(error=50.0, seed=1, profile="short")
    add_run(error=20.0, seed=2, data=JPEG)
    document = text(results)
    titles = re.findall(r"^## (.*)", document, re.MULTILINE)
    assert titles == [
        "paper profile, CIFAR-10",
        "paper profile, CIFAR-10 (JPEG copy)",
        "short profile, CIFAR-10",
    ]
    means = [line_of(part, "ResNet-20")[1] for part in document.split("\n## ")[1:]]
    assert means == ["5.00 (1)", "20.00 (1)", "50.00 (1)"]
    assert "JPEG copy: pixels differ from the official release." in document
    assert "epochs 15 (paper: 300)" in document


def test_baseline_of_another_section_is_no_baseline(results, add_run):
    add_run("cifar_resnet20", profile="short")
    add_run("cifar_hbnet20")
    assert "difference" not in text(results)


def test_smoke_is_never_tabulated(results, add_run):
    add_run(profile="smoke", error=77.0)
    with pytest.raises(UserError, match=r"no finished runs of 'cifar'.*smoke.*run `python -m benchmark run cifar`"):
        write_tables(EXPERIMENT, results, PAPER)
    add_run()
    assert not any(
        "77.0" in content.decode() or "smoke" in content.decode() for content in tables(results).values()
    )


def test_what_did_not_finish(results, add_run):
    add_run("cifar_resnet20", 5.0)
    add_run("cifar_resnet20", seed=1, status="failed", reason="OutOfMemoryError: a | b * <c>")
    add_run("cifar_resnet20", seed=2, status="interrupted", reason="stopped by a signal")
    add_run("cifar_hbnet20", status="diverged", reason="loss is nan at epoch 3")
    document = text(results)
    assert line_of(document, "ResNet-20")[1] == "5.00 (1)"
    assert line_of(document, "HB-Net-20")[1] == "diverged"
    assert "- diverged: cifar_hbnet20 on C10+, seed 0: loss is nan at epoch 3" in document
    assert r"- failed: cifar_resnet20 on C10+, seed 1: OutOfMemoryError: a \| b \* &lt;c>" in document
    assert "- interrupted: cifar_resnet20 on C10+, seed 2: stopped by a signal" in document


def test_rows_of_the_users_own_come_last(results, add_run):
    add_run("zebra_net")
    add_run("aardvark_net")
    add_run("cifar_densenet22")
    labels = [line.split("|")[1].strip() for line in text(results).splitlines() if line.startswith("|")]
    assert labels[2:] == ["DenseNet (k=12, L=22)", "aardvark_net", "zebra_net"]


def test_costs_are_of_the_device_of_most_runs_and_others_are_marked(results, add_run):
    """A row has those of the device of most of its own runs, if of several of the table's."""
    usual, other = "CPU: AMD EPYC, 2 threads", "GPU: NVIDIA B200"
    for seed in (0, 1, 2):
        add_run(seed=seed, images_per_second=400.0)
    add_run(seed=3, images_per_second=900.0, device=other)
    add_run("cifar_hbnet20", seed=0, images_per_second=300.0)
    for seed in (1, 2):
        add_run("cifar_hbnet20", seed=seed, images_per_second=800.0, device=other)
    add_run("cifar_agdresnet20", seed=0, images_per_second=200.0)
    add_run("cifar_agdresnet20", seed=1, images_per_second=700.0, device=other)
    document = text(results)
    assert line_of(document, "ResNet-20")[-3] == "400"
    assert line_of(document, "HB-Net-20")[-3] == "800‡"
    assert line_of(document, "Nesterov-20")[-3] == "200"
    assert f"costs are of {usual}, those with ‡ of {other} (HB-Net-20)." in document
    tables(results)
    frame = pd.read_csv(results / "tables/cifar.csv")
    assert frame["cost device"].tolist() == [usual, other, usual]


def test_small_numbers_keep_their_digits(results, add_run):
    for seed, error in enumerate((5.0, 5.1, 5.2)):
        add_run(seed=seed, error=error, joules=72.0)
        add_run("cifar_hbnet20", seed=seed, error=error - 1 - seed * 1e-4)
    tables(results)
    frame = pd.read_csv(results / "tables/cifar.csv").set_index("row")
    assert 0 < frame.loc["cifar_hbnet20", "C10+ difference p"] < 1e-6
    assert frame.loc["cifar_resnet20", "kilowatt_hours"] == pytest.approx(2e-5)


def test_an_older_definition_of_a_network_gives_way(results, add_run):
    cell = make_cell(EXPERIMENT, "cifar_agdnet40", "cifar10+", "paper", "CIFAR-10")
    for seed in (0, 1):
        add_run(error=7.0, seed=seed, cell=cell)
    assert line_of(text(results), "AGD-Net (k=12, L=40)")[2].startswith("7.00 ± 0.00 (2)")
    add_run(error=5.0, seed=0, cell=replace(cell, network=replace(cell.network, definition=2)))
    document = text(results)
    assert line_of(document, "AGD-Net (k=12, L=40)")[2].startswith("5.00 (1)")
    assert "- left out, of an older definition of its network: cifar_agdnet40 on C10+, seed 1" in document


def test_a_newer_definition_takes_no_place_before_a_run_of_it_finished(results, add_run):
    cell = make_cell(EXPERIMENT, "cifar_agdnet40", "cifar10+", "paper", "CIFAR-10")
    for seed in (0, 1):
        add_run(error=7.0, seed=seed, cell=cell)
    newer = replace(cell, network=replace(cell.network, definition=2))
    add_run(error=5.0, seed=0, cell=newer, status="interrupted")
    document = text(results)
    assert line_of(document, "AGD-Net (k=12, L=40)")[2].startswith("7.00 ± 0.00 (2)")
    assert "interrupted: cifar_agdnet40 on C10+, seed 0" in document
    assert "left out" not in document


def test_order_of_the_runs_changes_nothing(results, add_run, tmp_path):
    runs = [(row, seed) for row in ("cifar_resnet20", "cifar_hbnet20", "cifar_plain20") for seed in (0, 1, 2)]
    for number, (row, seed) in enumerate(runs):
        add_run(row, 5.0 + number / 7, seed=seed)
    other = tmp_path / "other"
    for number, (row, seed) in reversed(list(enumerate(runs))):
        add_run(row, 5.0 + number / 7, seed=seed, to=other)
    assert tables(results) == tables(other) == tables(results)


def test_load_results(results, add_run):
    add_run(error=5.0, seed=1)
    add_run(profile="smoke")
    add_run(seed=2, status="failed", reason="no memory")
    frame = load_results(results).set_index(["profile", "seed"])
    assert len(frame) == 3
    done = frame.loc[("paper", 1)]
    assert (done["row"], done["dataset"], done["status"]) == ("cifar_resnet20", "cifar10+", "done")
    assert (done["test_error"], done["parameters"], done["commit"]) == (5.0, 272_474, "0123456789abcdef")
    assert frame.loc[("paper", 2)]["reason"] == "no memory"
    assert pd.isna(frame.loc[("paper", 2)]["test_error"])


def test_an_experiment_without_published_numbers(results, add_run):
    add_run("resnet14", dataset="digits", profile="short", data="digits", experiment=quickstart.EXPERIMENT)
    paths = write_tables(quickstart.EXPERIMENT, results, PAPER)
    assert [path.name for path in paths] == [f"quickstart.{suffix}" for suffix in SUFFIXES]
    document = (results / "tables" / "quickstart.md").read_text()
    assert "## short profile, digits" in document
    assert "Profile short: epochs 12, batch size 64" in document
    with (results / "tables" / "quickstart.csv").open() as file:
        assert next(csv.DictReader(file))["digits n"] == "1"


def test_importing_the_package_is_cheap():
    script = "import sys, benchmark.report as r; assert 'pandas' not in sys.modules; r.load_results; import pandas"
    heavy = "assert not {'torch', 'pytorch_lightning', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", f"{script}; {heavy}"], check=True, timeout=60)


def test_folders_whose_names_differ_in_signs_have_files_of_their_own(results, add_run):
    add_run(data=JPEG)
    (section,) = read_sections(EXPERIMENT, results)
    assert section.slug == "paper-jpeg-copy"
    for name in ("im-a", "im_a"):
        add_run(data=name)
    slugs = [section.slug for section in read_sections(EXPERIMENT, results)]
    assert len(set(slugs)) == 3
    assert "paper-jpeg-copy" in slugs
