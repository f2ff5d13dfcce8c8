"""The notes under a table, generated from its records: what a reader must know before comparing its numbers."""

from collections.abc import Iterable, Mapping
from statistics import median
from typing import Any

from benchmark.ledger import Record
from benchmark.report.choice import choices
from benchmark.report.layout import ELSEWHERE, UNVERIFIED, difference_text
from benchmark.report.lines import Line, comparisons
from benchmark.report.sections import PAPER, Section, data_label, differing, recipe_fields, test_images
from benchmark.report.statistics import CONFIDENCE, MOST_SEEDS, POWER, binomial_error
from benchmark.specs import to_dict

LOSSY = ("JPEG",)
NAMED_VERSIONS = ("torch", "pytorch-lightning")
CHECKSUM_DIGITS = len("sha256:") + 12


def section_notes(section: Section, lines: list[Line]) -> list[str]:
    """Every note of a section, in a fixed order."""
    done = section.of(status="done")
    return [
        *_reading(lines),
        *_comparisons(lines),
        *_shared_baselines(lines),
        *_incomplete_pairs(section, lines),
        *_mixed_pairs(section, lines),
        *_test_sets(section, lines),
        *_profile(section),
        *_data(section),
        *_choices(section),
        *_seeds(section),
        *_not_done(section),
        *_superseded(section),
        *_sizes(section),
        *_machine(section, done, lines),
        *_code(done),
        *_in_parts(done),
        *_published(lines),
    ]


def _reading(lines: list[Line]) -> list[str]:
    if not lines:
        return []
    notes = [
        "Test error in percent, mean ± standard deviation (number of seeds).",
        "Result = last epoch's test error, never the best.",
    ]
    if any(entry.gap is not None for line in lines for entry in line.entries.values()):
        notes.append("Gap: mean test error minus the published one, in percentage points.")
    notes.append(
        "images/s (training), peak memory (on a CPU the whole process's, earlier runs included), time and Wh: the "
        "best epoch's or run's. Other work on the machine makes them worse, in some rows more than in others."
    )
    if any(entry.difference for line in lines for entry in line.entries.values()):
        notes.append(
            f"Difference to the baseline in percentage points, paired by seed [{CONFIDENCE * 100:g} % t interval]; "
            "bold if significant after Holm's correction over all comparisons in the table (rows run so far)."
        )
    return notes


def _comparisons(lines: list[Line]) -> list[str]:
    compared = comparisons(lines)
    if not compared:
        return []
    values = [
        f"{_name(line, dataset)} {entry.difference.p:.2g} ({entry.adjusted_p:.2g})"
        for line, dataset, entry in compared
    ]
    needed = [
        f"{_name(line, dataset)} {entry.seeds_needed or f'over {MOST_SEEDS}'}"
        for line, dataset, entry in compared
        if not entry.is_significant
    ]
    notes = [f"p of the differences (after Holm's correction): {'; '.join(values)}."]
    if needed:
        level = f"{100 * (1 - CONFIDENCE):.2g} %" + (f" / {len(compared)}" if len(compared) > 1 else "")
        power = f"{100 * POWER:g} % power at a level of {level}"
        notes.append(f"Seeds for {power}, if mean and spread hold: {'; '.join(needed)}.")
    return notes


def _shared_baselines(lines: list[Line]) -> list[str]:
    compared = _paired(lines)
    if len({(line.baseline, dataset) for line, dataset in compared}) == len(compared):
        return []
    return ["Rows with one baseline share its runs: their differences are not independent."]


def _incomplete_pairs(section: Section, lines: list[Line]) -> list[str]:
    """Differences of rows that have seeds which their baseline lacks, or the other way round."""
    found = []
    for line, dataset in _paired(lines):
        ours, theirs = (_devices(section, row, dataset) for row in (line.row, line.baseline))
        if ours.keys() != theirs.keys():
            found.append(
                f"{_name(line, dataset)} {len(ours.keys() & theirs.keys())} (its seeds {_list(sorted(ours))}; "
                f"baseline {_list(sorted(theirs))})"
            )
    return [f"Fewer pairs than seeds: {'; '.join(found)}."] if found else []


def _mixed_pairs(section: Section, lines: list[Line]) -> list[str]:
    found = []
    for line, dataset in _paired(lines):
        ours, theirs = (_devices(section, row, dataset) for row in (line.row, line.baseline))
        shared = sorted(ours.keys() & theirs.keys())
        if seeds := tuple(seed for seed in shared if ours[seed] != theirs[seed]):
            found.append(f"{_name(line, dataset)} {_seeds_text(seeds)}")
    return [f"Pairs whose runs are of two kinds of device: {'; '.join(found)}."] if found else []


def _paired(lines: list[Line]) -> list[tuple[Line, str]]:
    """The lines that have a difference, and the data sets on which."""
    return [(line, dataset) for line in lines for dataset, entry in line.entries.items() if entry.difference]


def _devices(section: Section, row: str, dataset: str) -> dict[int, str]:
    """The kind of device of each seed that is done."""
    return {record.seed: record.device_kind for record in section.of(row, dataset, "done")}


def _name(line: Line, dataset: str) -> str:
    return f"{line.label} on {data_label(dataset)}"


def _test_sets(section: Section, lines: list[Line]) -> list[str]:
    """How far an error is known from so many test images, at the median error of each data set."""
    notes = []
    for dataset in section.datasets:
        errors = [line.entries[dataset].error.mean for line in lines if line.entries[dataset].error]
        counts = {test_images(record) for record in section.of(dataset=dataset, status="done")} - {None}
        if errors and len(counts) == 1:
            (count,) = counts
            notes.append(test_set_note(dataset, median(errors), count))
    return notes


def test_set_note(dataset: str, error: float, images: int) -> str:
    """What the choice of test images alone does to an error (percent)."""
    return (
        f"{data_label(dataset)}: {images:,} test images; other ones would move an error of {error:.1f} % "
        f"by {binomial_error(error, images):.2f} points (binomial standard error). Intervals are over seeds, on "
        "these images, and say nothing of others."
    )


def _profile(section: Section) -> list[str]:
    recipe = recipe_fields((section.of(status="done") or section.of())[0])
    paper = section.experiment.profiles.get(PAPER)
    if paper is None:
        return [f"Profile {section.profile}: {_describe(recipe)}."]
    theirs = to_dict(paper)
    names = differing(recipe, {k: theirs[k] for k in recipe})
    if not names:
        return [f"Profile {section.profile}: the paper's recipe ({_describe(recipe)})."]
    changes = "; ".join(f"{in_words(n)} {value_text(recipe[n])} (paper: {value_text(theirs[n])})" for n in names)
    return [f"Profile {section.profile} deviates from the paper's: {changes}."]


def _data(section: Section) -> list[str]:
    done = section.of(status="done")
    identities = dict.fromkeys(_identity(r.result["data"]) for r in done if r.result.get("data"))
    notes = [f"Data: {'; '.join(identities)}."] if identities else []
    if section.copy.startswith(LOSSY):
        notes.append(f"{section.copy.split(',')[0]}: pixels differ from the official release.")
    held_out = {r.cell.dataset: r.cell.data.validation for r in done if r.cell.data.validation}
    notes += [
        f"{data_label(d)}: {n} training images held out for validation; their error is the last epoch's, and "
        "selection is by it. Differences are in test error."
        for d, n in sorted(held_out.items())
    ]
    return notes


def _choices(section: Section) -> list[str]:
    """Which of the rows that are compared with one baseline has the lowest error on the held-out images."""
    notes = []
    for choice in choices(section):
        chosen, baseline = section.label(choice.chosen), section.label(choice.baseline)
        others = "; ".join(f"{section.label(row)} {difference_text(d)}" for row, d in choice.others.items())
        uncorrected = any(d.low is not None for d in choice.others.values())
        notes.append(
            f"{data_label(choice.dataset)}: on the held-out images {chosen} has the lowest error of the rows with "
            f"most seeds that are compared with {baseline}, {choice.error:.2f} over "
            f"{_seeds_text(choice.seeds)}; {others}"
            + (" (intervals not corrected for their number)." if uncorrected else ".")
        )
    return notes


def _seeds_text(seeds: tuple[int, ...]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {_list(seeds)}"


def _identity(data: Mapping[str, Any]) -> str:
    return f"{data['name']}, {data['source']}, checksum {data['checksum'][:CHECKSUM_DIGITS]}"


def _seeds(section: Section) -> list[str]:
    """Rows with seeds missing, those that miss the same ones together."""
    asked = section.experiment.seeds
    missing: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for dataset in section.datasets:
        for row in section.rows:
            have = {r.seed for r in section.of(row, dataset, "done")}
            lacking = tuple(seed for seed in asked if seed not in have)
            if lacking and section.of(row, dataset):
                missing.setdefault((dataset, lacking), []).append(row)
    return [
        f"{_rows_text(section, rows)} on {data_label(dataset)}: {len(asked) - len(lacking)} of {len(asked)} seeds "
        f"(missing {_list(lacking)})"
        for (dataset, lacking), rows in missing.items()
    ]


def _rows_text(section: Section, rows: list[str]) -> str:
    return "All rows" if 1 < len(rows) == len(section.rows) else ", ".join(rows)


def _not_done(section: Section) -> list[str]:
    """Runs that diverged, and those that stopped and were not done otherwise, say in another precision."""
    notes = []
    for dataset in section.datasets:
        for row in section.rows:
            done = {(r.seed, r.cell.network.definition) for r in section.of(row, dataset, "done")}
            for record in section.of(row, dataset):
                is_done = (record.seed, record.cell.network.definition) in done
                if record.status == "diverged" or not is_done:
                    reason = record.result.get("reason") or "no reason recorded"
                    notes.append(f"{record.status}: {row} on {data_label(dataset)}, seed {record.seed}: {reason}")
    return notes


def _superseded(section: Section) -> list[str]:
    runs = (f"{r.cell.row} on {data_label(r.cell.dataset)}, seed {r.seed}" for r in section.superseded)
    return [f"left out, of an older definition of its network: {run}" for run in runs]


def _sizes(section: Section) -> list[str]:
    """Networks whose size depends on the data set (its classes)."""
    sizes = {(r.cell.row, r.result["parameters"]) for r in section.of(status="done")}
    if len(sizes) == len({row for row, _ in sizes}):
        return []
    return ["Parameters and multiply-adds are those on a row's first data set; more classes add to the last layer."]


def _machine(section: Section, done: list[Record], lines: list[Line]) -> list[str]:
    precisions, devices = _unique(done, "precision"), sorted({record.device for record in done})
    if not done:
        return []
    usual = section.usual_device
    elsewhere: dict[str, list[str]] = {}
    for line in lines:
        if line.cost.device not in (usual, None):
            elsewhere.setdefault(line.cost.device, []).append(line.label)
    marked = "; ".join(f"{device} ({', '.join(labels)})" for device, labels in sorted(elsewhere.items()))
    mixed = f"; costs are of {usual}" if len(devices) > 1 else ""
    mixed += f", those with {ELSEWHERE} of {marked}" if marked else ""
    compiled = " Time holds what compiling took." if any(map(_compiles, done)) else ""
    versions = (f"{name} {_list(_versions(done, name))}" for name in NAMED_VERSIONS)
    return [
        f"Precision: {_list(precisions)}. Device: {'; '.join(devices)}{mixed}.{compiled}",
        f"Versions: {', '.join(versions)}.",
    ]


def _compiles(record: Record) -> bool:
    return record.cell.recipe.compile not in (False, "graphs")


def _code(done: list[Record]) -> list[str]:
    commits = sorted({commit for record in done for commit in record.commits})
    if not commits:
        return []
    return [f"Mixes commits {_list(commits)}." if len(commits) > 1 else f"Commit {commits[0]}."]


def _in_parts(done: list[Record]) -> list[str]:
    runs = [f"{r.cell.row} on {data_label(r.cell.dataset)}, seed {r.seed}" for r in done if len(r.parts) > 1]
    if not runs:
        return []
    return [f"Resumed on another device, with other versions or at another commit: {'; '.join(runs)}."]


def _published(lines: list[Line]) -> list[str]:
    entries = [entry for line in lines for entry in line.entries.values()]
    published = [number for e in entries for number in (e.published, e.published_top5) if number]
    if all(p.verified for p in published):
        return []
    return [f"{UNVERIFIED} published number not checked against the paper's PDF."]


def _versions(done: list[Record], name: str) -> list[str]:
    return sorted({v for r in done for v in r.of_parts(lambda p: (p.get("versions") or {}).get(name, "unknown"))})


def _unique(records: list[Record], name: str) -> list[str]:
    return sorted({str(r.result.get(name, "unknown")) for r in records})


def _describe(recipe: Mapping[str, Any]) -> str:
    """Every setting that has an effect."""
    idle = {"limit_batches"} if not recipe["limit_batches"] else set()
    idle |= {"image_size"} if not recipe["image_size"] else set()
    idle |= {"milestones"} if recipe["schedule"] != "step" else set()
    idle |= {"devices", "sync_batchnorm"} if recipe["devices"] == 1 else set()
    return ", ".join(f"{in_words(name)} {value_text(value)}" for name, value in recipe.items() if name not in idle)


def in_words(name: str) -> str:
    """A field's name as a note says it."""
    return name.replace("_", " ")


def value_text(value: Any) -> str:
    """A field's value as a note says it."""
    if isinstance(value, list):
        return ", ".join(map(value_text, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("_", " ")


def _list(values: Iterable[Any]) -> str:
    return ", ".join(map(str, values))
