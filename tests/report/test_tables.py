import csv
import json
import math
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from benchmark.errors import UserError
from benchmark.experiments import quickstart
from benchmark.experiments.cifar import EXPERIMENT
from benchmark.ledger import RunFolder
from benchmark.report.tables import console_text, load_results, write_tables

from .conftest import JPEG, PAPER, curve, make_cell

OWN = ("schema_version", "run_id", "status", "experiment", "seed", "spec", "sha256", "metrics_sha256")
SUFFIXES = ["csv", "md", "tex", "html"]


def text(results: Path, paper: Path | None = PAPER) -> str:
    return console_text(EXPERIMENT, results, paper)


def tables(results: Path) -> dict[str, bytes]:
    return {path.suffix: path.read_bytes() for path in write_tables(EXPERIMENT, results, PAPER)}


def line_of(document: str, label: str) -> list[str]:
    """The cells of the first table line whose label this is."""
    lines = ([cell.strip() for cell in line.strip("|").split("|")] for line in document.splitlines())
    return next(cells for cells in lines if cells[0] == label)


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


def test_the_test_sets_own_noise_is_told(results, add_run):
    add_run("cifar_resnet20", 10.0)
    assert "C10+: 10,000 test images; other ones would move an error of 10.0 % by 0.30 points" in text(results)


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
    assert line_of(document, "ResNet-20")[-3:] == ["0.50 GB", "60 min", "2.00"]
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


def test_missing_seeds_are_named(results, add_run):
    for seed in (0, 1):
        add_run("cifar_resnet20", seed=seed)
    assert "cifar_resnet20 on C10+: 2 of 3 seeds (missing 2)" in text(results)
    add_run("cifar_resnet20", seed=2)
    assert "missing" not in text(results)


def test_published_numbers_and_their_mark(results, add_run):
    add_run("cifar_hbnet56")
    add_run("cifar_densenet40")
    document = text(results)
    assert "5.46†" in line_of(document, "HB-Net-56 (n=9)")
    assert "5.24" in line_of(document, "DenseNet (k=12, L=40)")
    assert "10.17†" in line_of(document, "HB-Net-56 (n=9)"), "data sets with a published number alone are shown"
    assert "- † published number not checked against the paper's PDF." in document


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


@pytest.mark.parametrize("seed", [0, 1])
def test_another_recipe_is_refused(results, add_run, seed):
    first = add_run(seed=0)
    second = add_run(seed=seed, recipe={"epochs": 7})
    with pytest.raises(UserError, match="recipe differs") as refusal:
        write_tables(EXPERIMENT, results, PAPER)
    assert str(first) in str(refusal.value)
    assert str(second) in str(refusal.value)
    assert "300" in str(refusal.value)
    assert not (results / "tables").exists()


def test_another_network_or_other_bytes_are_refused(results, add_run):
    add_run(seed=0)
    cell = make_cell(EXPERIMENT, "cifar_resnet20", "cifar10+", "paper", "CIFAR-10")
    network = add_run(seed=1, cell=replace(cell, network=replace(cell.network, options={"depth": 26})))
    with pytest.raises(UserError, match="network differs"):
        text(results)
    shutil.rmtree(network)
    network = add_run(seed=1, cell=replace(cell, network=replace(cell.network, definition=2)))
    with pytest.raises(UserError, match=r"network differs \(definition 1 and 2\)"):
        text(results)
    shutil.rmtree(network)
    add_run("cifar_hbnet20", seed=1, cell=replace(cell, data=replace(cell.data, checksum="other")))
    with pytest.raises(UserError, match="data differs"):
        text(results)


def test_precision_may_differ_between_seeds_but_not_count_one_twice(results, add_run):
    add_run(seed=0)
    add_run(seed=1, recipe={"precision": "bf16-mixed"})
    assert "Precision: 32-true, bf16-mixed" in text(results)
    add_run(seed=0, recipe={"precision": "bf16-mixed"})
    with pytest.raises(UserError, match="run of this seed differs"):
        text(results)


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


def test_code_and_machine_are_named(results, add_run):
    add_run(seed=0)
    add_run(seed=1, git={"commit": "fedcba9876543210", "dirty": True}, device="GPU: NVIDIA H200")
    document = text(results)
    assert "Mixes commits 0123456, fedcba9 (with uncommitted changes)." in document
    assert "Device: CPU: AMD EPYC, 2 threads; GPU: NVIDIA H200; costs are of the fastest." in document
    assert "Versions: torch 2.9.0, pytorch-lightning 2.6.6." in document
    assert "Result = last epoch's test error, never the best." in document


def test_order_of_the_runs_changes_nothing(results, add_run, tmp_path):
    runs = [(row, seed) for row in ("cifar_resnet20", "cifar_hbnet20", "cifar_plain20") for seed in (0, 1, 2)]
    for number, (row, seed) in enumerate(runs):
        add_run(row, 5.0 + number / 7, seed=seed)
    other = tmp_path / "other"
    for number, (row, seed) in reversed(list(enumerate(runs))):
        add_run(row, 5.0 + number / 7, seed=seed, to=other)
    assert tables(results) == tables(other) == tables(results)


def test_csv_is_numeric(results, add_run):
    for seed, error in enumerate([5.0, 5.5]):
        add_run("cifar_resnet56", error, seed=seed)
        add_run("cifar_hbnet56", error - 0.1 * seed, seed=seed)
    write_tables(EXPERIMENT, results, PAPER)
    frame = pd.read_csv(results / "tables" / "cifar.csv").set_index("row")
    ours = frame.loc["cifar_hbnet56"]
    assert (ours["C10+ error mean"], ours["C10+ n"], ours["C10+ published"]) == (5.2, 2, 5.46)
    assert ours["C10+ gap"] == -0.26
    assert ours["C10+ error std"] == pytest.approx(0.2828, abs=1e-4)
    assert ours["C10+ published provenance"] == "unverified"
    assert (ours["C10+ difference"], ours["C10+ difference n"]) == (-0.05, 2)
    assert ours["C10+ difference low"] < -0.05 < ours["C10+ difference high"]
    assert (ours["parameters"], ours["multiply_adds"], ours["seconds_per_epoch"]) == (272_474, 40_813_184, 2.0)
    assert (ours["profile"], ours["data"]) == ("paper", "CIFAR-10")
    numeric = [name for name in frame.columns if re.search("error|difference|low| n$|published$", name)]
    assert all(pd.api.types.is_numeric_dtype(frame[name]) for name in numeric)


def awkward_results(results, add_run) -> Path:
    """Every special character that LaTeX and HTML know."""
    add_run("cifar_hbnet56", 5.0)
    add_run("cifar_resnet56", 5.5)
    add_run(r"odd_net & <b>#1</b> 50% $x^2$ {~} \end [a] * ± †", 6.0)
    add_run("cifar_resnet56", status="failed", seed=1, reason=r"100% of {a_b} & C:\new #1 ~ ^ $ 中")
    return next(path for path in write_tables(EXPERIMENT, results, PAPER) if path.suffix == ".tex")


def test_latex_has_no_unescaped_character(results, add_run):
    body = awkward_results(results, add_run).read_text()
    assert body.isascii()
    body = body.removeprefix("% needs ")
    assert not re.search(r"(?<!\\)[%#_^~]", body)
    for line in body.splitlines():
        assert "&" not in re.sub(r"\\&", "", line) or line.endswith(r"\\")
    assert len(re.findall(r"(?<!\\)\{", body)) == len(re.findall(r"(?<!\\)\}", body))
    columns = {len(re.findall(r"(?<!\\)&", line)) for line in body.splitlines() if " & " in line and "(1" in line}
    assert len(columns) == 1


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_compiles(results, add_run, tmp_path):
    table = awkward_results(results, add_run)
    document = (
        rf"\documentclass{{article}}\usepackage{{booktabs}}\begin{{document}}\input{{{table}}}\end{{document}}"
    )
    (tmp_path / "page.tex").write_text(document)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=60)


class Reader(HTMLParser):
    """Collects text and checks that every element is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_html_is_well_formed_and_escaped(results, add_run):
    path = awkward_results(results, add_run).with_suffix(".html")
    reader = Reader()
    reader.feed(path.read_text())
    assert not reader.open
    assert len(set(reader.ids)) == len(reader.ids)
    assert r"odd_net & <b>#1</b> 50% $x^2$ {~} \end [a] * ± †" in reader.text
    assert "5.46†" in reader.text


def test_no_results(tmp_path, results):
    with pytest.raises(UserError, match="does not exist"):
        write_tables(EXPERIMENT, tmp_path / "nowhere", PAPER)
    with pytest.raises(
        UserError, match=r"no finished runs of 'cifar' under .*runs/cifar; run `python -m benchmark run"
    ):
        write_tables(EXPERIMENT, results, PAPER)
    with pytest.raises(UserError, match="no finished runs"):
        load_results(results, "cifar")


def test_only_failures_are_no_results(results, add_run):
    add_run(status="failed")
    with pytest.raises(UserError, match="no finished runs"):
        text(results)


def test_edited_record_is_refused_by_path(results, add_run):
    record = add_run() / "result.json"
    record.write_text(record.read_text().replace('"epochs": 300', '"epochs": 30'))
    with pytest.raises(UserError, match="edited") as refusal:
        text(results)
    assert str(record) in str(refusal.value)


def test_incomplete_record_is_refused_by_path(results, add_run):
    path = add_run(parameters=None)
    with pytest.raises(UserError, match=re.escape(str(path)) + ".*lacks parameters"):
        text(results)


def test_damaged_published_numbers(results, add_run, tmp_path):
    add_run()
    (tmp_path / "cifar.csv").write_text("model,value\nResNet,5\n")
    with pytest.raises(UserError, match="not a table of published numbers"):
        text(results, paper=tmp_path)


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
