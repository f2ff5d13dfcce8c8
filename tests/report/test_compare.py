"""Two sets of results side by side: what is matched, what is said of it, and what is beyond noise."""

import io
import re
from dataclasses import replace

import pandas as pd
import pytest

from benchmark.errors import UserError
from benchmark.experiments.cifar import EXPERIMENT
from benchmark.report.compare import Change, compare_sections, read_results
from benchmark.report.compare_tables import comparison_frame, comparison_text
from benchmark.specs import NetworkSpec

from .conftest import JPEG, OFFICIAL, make_cell


@pytest.fixture
def sides(tmp_path, add_run):
    """``sides(a, b)`` compares runs given as ``(row, errors by seed, values of add_run)``, the last optional."""
    paths = tmp_path / "a", tmp_path / "b"

    def compare(a, b):
        for path, runs in zip(paths, (a, b), strict=True):
            for row, errors, *values in runs:
                for seed, error in errors.items():
                    add_run(row, error, seed=seed, to=path, **(values[0] if values else {}))
        both = [read_results([EXPERIMENT], path).get("cifar", []) for path in paths]
        return compare_sections(*both)

    return compare


def only_change(sections) -> Change:
    ((change,),) = (section.changes for section in sections)
    return change


def text(sections) -> str:
    return comparison_text("cifar: A = a, B = b", sections)


def line_of(document: str, *start: str) -> list[str]:
    lines = ([cell.strip() for cell in line.strip("|").split("|")] for line in document.splitlines())
    return next(cells for cells in lines if cells[: len(start)] == list(start))


def seeds(*errors: float, first: int = 0) -> dict[int, float]:
    return dict(enumerate(errors, first))


ROW = "cifar_resnet20"
OTHER_RATE = {"recipe": {"learning_rate": 0.2}}


def test_numbers_by_hand(sides):
    """Differences −1, −2, −3: mean −2, half width 4.303 · 1 / √3 = 2.48."""
    document = text(sides([(ROW, seeds(5.0, 6.0, 7.0))], [(ROW, seeds(4.0, 4.0, 4.0), OTHER_RATE)]))
    assert line_of(document, "model")[:6] == ["model", "data", "A", "B", "B − A", "verdict on B"]
    assert line_of(document, "ResNet-20") == [
        "ResNet-20",
        "C10+",
        "6.00 ± 1.00 (3)",
        "4.00 ± 0.00 (3)",
        "−2.00 [−4.48, +0.48]",
        "no difference beyond noise",
        "1.00",
        "1.00",
    ]
    assert "p of the differences (after Holm's correction): ResNet-20 on C10+ 0.074 (0.074)." in document
    assert "recipe: learning rate 0.1 → 0.2" in document
    assert "test images; other ones would move an error of 5.0 % by 0.22 points" in document


@pytest.mark.parametrize(
    ("errors", "verdict"),
    [
        ((4.0, 4.1, 4.3), "better"),
        ((6.0, 6.1, 6.3), "worse"),
        ((5.3, 4.8, 5.4), "no difference beyond noise"),
        ((5.0, 5.1, 5.2), "same errors"),
        ((6.0, 6.1, 6.2), "no spread to judge by"),
    ],
)
def test_verdicts_on_another_recipe(sides, errors, verdict):
    change = only_change(sides([(ROW, seeds(5.0, 5.1, 5.2))], [(ROW, seeds(*errors), OTHER_RATE)]))
    assert change.verdict == verdict
    assert not change.same_id
    assert ("**" in text(sides([], []))) == (verdict in ("better", "worse"))


def test_a_verdict_stands_only_after_the_correction(sides):
    """p = 0.019 alone is beyond noise; as the least of three comparisons it is 0.057."""
    before, after = seeds(5.0, 6.0, 7.0), seeds(3.8, 5.0, 6.27)
    assert only_change(sides([(ROW, before)], [(ROW, after)])).verdict == "better"
    rows = ("cifar_hbnet20", "cifar_plain20")
    sections = sides(
        [(row, before) for row in rows], [(row, seeds(5.1, 5.9, 7.2 - i)) for i, row in enumerate(rows)]
    )
    by_row = {change.row: change for change in sections[0].changes}
    assert by_row[ROW].adjusted_p == pytest.approx(3 * by_row[ROW].difference.p)
    assert by_row[ROW].verdict == "no difference beyond noise"


def test_same_runs(sides):
    runs = [(ROW, seeds(5.0, 5.1))]
    sections = sides(runs, runs)
    assert only_change(sections).verdict == "same runs"
    assert "2 runs have the same id (network, data, recipe and seed) on both sides; 2 of them are equal" in text(
        sections
    )
    assert "What differs" not in text(sections)


@pytest.mark.parametrize(
    ("a", "b", "verdict"), [(1, 3, "same runs, 2 more in B"), (3, 2, "same runs, 1 more in A")]
)
def test_same_runs_and_more(sides, a, b, verdict):
    errors = (5.0, 5.1, 5.3)
    sections = sides([(ROW, seeds(*errors[:a]))], [(ROW, seeds(*errors[:b]))])
    assert only_change(sections).verdict == verdict
    assert f"only in {verdict[-1]}: ResNet-20 on C10+." in text(sections)


def test_the_same_id_with_another_error_is_named(sides):
    sections = sides([(ROW, seeds(5.0, 5.1))], [(ROW, seeds(5.0, 5.4))])
    change = only_change(sections)
    assert (change.same_id, change.equal) == ([0, 1], [0])
    assert change.verdict == "no difference beyond noise"
    assert "The same id, another result (code, versions or machine): ResNet-20 on C10+, seed 1 (+0.30)." in text(
        sections
    )


def test_an_equal_error_with_another_loss_is_not_the_same_run(sides):
    sections = sides([(ROW, seeds(5.0))], [(ROW, seeds(5.0), {"test_loss": 0.4000001})])
    change = only_change(sections)
    assert (change.same_id, change.equal, change.verdict) == ([0], [], "too few seeds")


def test_one_shared_seed_has_no_interval(sides):
    change = only_change(sides([(ROW, seeds(5.0))], [(ROW, seeds(4.5, 4.6, 4.7), OTHER_RATE)]))
    assert change.difference.mean == pytest.approx(-0.5), "of the shared seed, not of the means"
    assert change.difference.reason == "1 seed"
    assert change.verdict == "too few seeds"


def test_other_seeds_are_compared_unpaired(sides):
    """Welch by hand: means 5.1 and 6.1, both variances 0.01, 4 degrees of freedom: 2.776 · √(0.02 / 3)."""
    sections = sides([(ROW, seeds(5.0, 5.1, 5.2))], [(ROW, seeds(6.0, 6.1, 6.2, first=3))])
    change = only_change(sections)
    assert not change.shared
    assert change.difference.mean == pytest.approx(1.0)
    assert change.difference.high - 1 == pytest.approx(2.7764 * (0.02 / 3) ** 0.5, rel=1e-4)
    assert change.verdict == "worse"
    assert line_of(text(sections), "ResNet-20")[4] == "**+1.00 [+0.77, +1.23]**"
    assert "of means over other seeds" in text(sections)


def test_paired_and_unpaired_in_one_table(sides):
    sections = sides(
        [(ROW, seeds(5.0, 5.1)), ("cifar_hbnet20", seeds(5.0, 5.2))],
        [(ROW, seeds(6.0, 6.3)), ("cifar_hbnet20", seeds(6.0, 6.1, first=5))],
    )
    assert "Not paired, for want of two shared seeds (Welch's interval): HB-Net-20 on C10+." in text(sections)


def test_rows_sets_and_sections_of_one_side(sides):
    sections = sides(
        [(ROW, seeds(5.0)), (ROW, seeds(5.0), {"profile": "short"})],
        [(ROW, seeds(5.0)), ("cifar_hbnet20", seeds(4.0)), (ROW, seeds(9.0), {"data": JPEG})],
    )
    verdicts = {(s.section.title, c.row): c.verdict for s in sections for c in s.changes}
    assert verdicts == {
        ("paper profile, CIFAR-10", ROW): "same runs",
        ("paper profile, CIFAR-10", "cifar_hbnet20"): "only in B",
        ("short profile, CIFAR-10", ROW): "only in A",
        ("paper profile, CIFAR-10 (JPEG copy)", ROW): "only in B",
    }
    assert text(sections).count("\n## ") == 3


@pytest.mark.parametrize(
    ("a", "b", "verdict"),
    [
        ("done", "diverged", "diverged in B"),
        ("diverged", "done", "diverged in A"),
        ("diverged", "diverged", "diverged in both"),
        ("done", "failed", "not done in B"),
        ("failed", "diverged", "done in neither"),
    ],
)
def test_without_an_error_on_a_side(sides, a, b, verdict):
    other = ("cifar_hbnet20", seeds(5.0))
    sections = sides([other, (ROW, seeds(5.0), {"status": a})], [other, (ROW, seeds(5.0), {"status": b})])
    change = next(change for change in sections[0].changes if change.row == ROW)
    assert change.verdict == verdict
    assert verdict in text(sections)


def test_runs_that_diverge_beside_others_are_told(sides):
    rest = [(ROW, {2: 5.2}, {"status": "diverged"})]
    change = only_change(sides([(ROW, seeds(5.0, 5.1, 5.2))], [(ROW, seeds(4.0, 4.2)), *rest]))
    assert change.verdict == "better, 1 more diverged in B"


def test_what_differs_is_named_and_grouped(sides):
    fixed = replace(make_cell(EXPERIMENT, ROW, "cifar10+", "paper", OFFICIAL), network=NetworkSpec(ROW, {"x": 1}))
    changed = replace(fixed, data=replace(fixed.data, checksum="sha256:" + "0123456789" * 4))
    sections = sides(
        [(ROW, seeds(5.0)), ("cifar_hbnet20", seeds(5.0), {"dataset": "cifar10"})],
        [(ROW, seeds(5.0), {"cell": changed}), ("cifar_hbnet20", seeds(5.0), {"dataset": "cifar10"})],
    )
    assert "What differs in ResNet-20 on C10+: network: options none → {'x': 1}" in text(sections)
    assert "→ sha256:012345678901." in text(sections), "a checksum is cut as everywhere"
    frame = comparison_frame(sections)
    assert frame["changed"].tolist()[frame["row"].tolist().index(ROW)] == "network options; data checksum"


def test_costs_are_compared_on_one_device_only(sides):
    values = {"images_per_second": 50_000.0, "peak_memory_bytes": 5 * 10**8}
    change = only_change(sides([(ROW, seeds(5.0, 5.1))], [(ROW, seeds(5.0, 5.1), values)]))
    assert (change.speed, change.memory) == (2.0, 0.5)


@pytest.mark.parametrize("name", ["device", "threads", "precision"])
def test_costs_of_another_environment_are_not_compared(sides, name):
    sections = sides([(ROW, seeds(5.0))], [(ROW, seeds(5.0), {name: "another"})])
    assert only_change(sections).speed is None
    assert "images/s" not in text(sections).splitlines()[4]
    assert "No cost, since device, threads or precision differ or are unknown: ResNet-20 on C10+." in text(sections)


def test_one_thread_is_one_device_in_early_records_too(sides):
    early, late = ({"device": f"CPU: AMD EPYC, {threads}", "threads": 1} for threads in ("1 threads", "1 thread"))
    sections = sides([(ROW, seeds(5.0), early)], [(ROW, seeds(5.0), late)])
    assert only_change(sections).speed == 1.0
    assert "Device only in" not in text(sections)


def test_sizes_code_and_versions_are_told_where_they_changed(sides):
    values = {
        "parameters": 272_475,
        "git": {"commit": "fedcba9876543210", "dirty": True},
        "versions": {"torch": "2.10.0", "pytorch-lightning": "2.6.6"},
    }
    document = text(sides([(ROW, seeds(5.0))], [(ROW, seeds(5.0), values)]))
    assert "Parameters: ResNet-20 on C10+ 272,474 → 272,475." in document
    assert "Multiply-adds" not in document
    assert "Commits: A 0123456; B fedcba9 (with uncommitted changes)." in document
    assert "Versions only in B: torch 2.10.0." in document
    assert "Device only" not in document


def test_smoke_runs_are_not_compared(sides, tmp_path):
    sides([(ROW, seeds(5.0), {"profile": "smoke"})], [(ROW, seeds(5.0))])
    assert read_results([EXPERIMENT], tmp_path / "a") == {}


def test_a_damaged_record_is_refused(sides, tmp_path):
    sides([(ROW, seeds(5.0))], [(ROW, seeds(5.0))])
    (path,) = tmp_path.glob("b/runs/*/*/result.json")
    path.write_text(path.read_text().replace('"test_error": 5.0', '"test_error": 4.0'))
    with pytest.raises(UserError, match=re.escape(str(path))):
        read_results([EXPERIMENT], tmp_path / "b")


def test_the_csv_has_the_numbers(sides):
    sections = sides(
        [(ROW, seeds(5.0, 6.0, 7.0)), ("cifar_hbnet20", seeds(5.0))], [(ROW, seeds(4.0, 4.0, 4.0), OTHER_RATE)]
    )
    file = io.StringIO(comparison_frame(sections).to_csv(index=False))
    rows = pd.read_csv(file).set_index("row")
    changed, gone = rows.loc[ROW], rows.loc["cifar_hbnet20"]
    assert (changed["A mean"], changed["B mean"], changed["difference"]) == (6.0, 4.0, -2.0)
    assert (changed["difference low"], changed["difference high"]) == pytest.approx((-4.4841, 0.4841))
    assert (changed["method"], changed["shared seeds"], changed["changed"]) == ("paired", 3, "recipe learning_rate")
    assert changed["p Holm"] == changed["p"] == pytest.approx(0.0742, abs=5e-5)
    assert (gone["verdict"], gone["B n"]) == ("only in A", 0)
    assert pd.isna(gone["difference"])
    assert pd.isna(gone["B mean"])


def test_order_of_the_runs_changes_nothing(sides):
    rows = (ROW, "cifar_hbnet20", "cifar_plain20", "zebra", "aardvark")
    document = text(sides([(row, seeds(5.0)) for row in rows], [(row, seeds(5.0)) for row in reversed(rows)]))
    shown = [
        line.split("|")[1].strip() for line in document.splitlines() if "C10+" in line and line.startswith("|")
    ]
    assert shown == ["plain-20", "ResNet-20", "HB-Net-20", "aardvark", "zebra"]
