"""What a table says, as numbers: one line a row, one entry a data set."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from benchmark.ledger import Record
from benchmark.report.costs import Cost, summarize_cost
from benchmark.report.published import Published, PublishedNumbers
from benchmark.report.sections import PAPER, Section, in_order, is_what_it_stands_for
from benchmark.report.statistics import CONFIDENCE, PairedDifference, Summary, holm, paired_difference, summarize


@dataclass(frozen=True)
class Entry:
    """A row on a data set: test error (percent), difference to the baseline (percentage points), published error.

    ``adjusted_p`` is the difference's p value after Holm's correction over all comparisons of the section,
    ``seeds_needed`` how many seeds would find it at a level for as many (``PairedDifference.seeds_needed``).
    ``diverged`` counts runs whose loss left the finite numbers; they are in no mean. ``top5`` and its published
    number are of the top-5 error, where the experiment tabulates that. ``validation`` is the last epoch's error on
    the training images that were held out, if any were.
    """

    error: Summary | None
    difference: PairedDifference | None
    published: Published | None
    diverged: int
    adjusted_p: float | None = None
    seeds_needed: int | None = None
    top5: Summary | None = None
    published_top5: Published | None = None
    validation: Summary | None = None

    @property
    def gap(self) -> float | None:
        """Our mean test error minus the published one, in percentage points."""
        return self.error.mean - self.published.value if self.error and self.published else None

    @property
    def top5_gap(self) -> float | None:
        """As ``gap``, of the top-5 error."""
        return self.top5.mean - self.published_top5.value if self.top5 and self.published_top5 else None

    @property
    def is_significant(self) -> bool:
        """Whether the difference stands after the correction."""
        return self.adjusted_p is not None and self.adjusted_p < 1 - CONFIDENCE


@dataclass(frozen=True)
class Line:
    """A row of a section. Parameters and multiply-adds are those of the first data set that has a run."""

    row: str
    label: str
    baseline: str | None
    entries: Mapping[str, Entry]
    parameters: int | None
    multiply_adds: int | None
    cost: Cost


def section_lines(section: Section, numbers: PublishedNumbers) -> list[Line]:
    """The lines of a section, with an entry for every data set that is shown."""
    datasets = shown_datasets(section, numbers)
    return _adjust([_line(section, row, datasets, numbers) for row in section.rows])


def comparisons(lines: Iterable[Line]) -> list[tuple[Line, str, Entry]]:
    """Every entry whose difference to the baseline has a p value, with its line and data set."""
    return [
        (line, dataset, entry)
        for line in lines
        for dataset, entry in line.entries.items()
        if entry.difference and entry.difference.p is not None
    ]


def _adjust(lines: list[Line]) -> list[Line]:
    compared = comparisons(lines)
    adjusted = holm([entry.difference.p for _, _, entry in compared])
    found = {
        (line.row, dataset): {"adjusted_p": p, "seeds_needed": entry.difference.seeds_needed(len(compared))}
        for (line, dataset, entry), p in zip(compared, adjusted, strict=True)
    }
    return [
        replace(line, entries={d: replace(e, **found.get((line.row, d), {})) for d, e in line.entries.items()})
        for line in lines
    ]


def shown_datasets(section: Section, numbers: PublishedNumbers) -> list[str]:
    """Data sets with a record; in the paper's profile also those with a published number for a row shown."""
    known = section.experiment.datasets
    measured = section.datasets
    if section.profile != PAPER:
        return measured
    published = [d for d in known if any(_published(section, row, d, numbers) for row in section.rows)]
    return in_order([*measured, *published], known)


def errors_by_seed(records: Iterable[Record]) -> dict[int, float]:
    """Last epoch's test error (percent) of each seed."""
    return {r.seed: r.result["test_error"] for r in records}


def validation_errors_by_seed(records: Iterable[Record]) -> dict[int, float]:
    """Last epoch's error (percent) of each seed on the images held out; empty if none were."""
    return {r.seed: error for r in records if (error := r.validation_error) is not None}


def _line(section: Section, row: str, datasets: list[str], numbers: PublishedNumbers) -> Line:
    baseline = section.baseline(row)
    done = [r for dataset in datasets for r in section.of(row, dataset, "done")]
    return Line(
        row=row,
        label=section.label(row),
        baseline=baseline,
        entries={d: _entry(section, row, d, baseline, numbers) for d in datasets},
        parameters=done[0].result["parameters"] if done else None,
        multiply_adds=done[0].result["multiply_adds"] if done else None,
        cost=summarize_cost(done, section.usual_device),
    )


def _entry(section: Section, row: str, dataset: str, baseline: str | None, numbers: PublishedNumbers) -> Entry:
    done = section.of(row, dataset, "done")
    errors = errors_by_seed(done)
    top5 = [error for r in done if (error := r.result.get("test_top5_error")) is not None]
    validation = validation_errors_by_seed(done)
    theirs = errors_by_seed(section.of(baseline, dataset, "done")) if baseline else {}
    return Entry(
        error=summarize(errors.values()) if errors else None,
        difference=paired_difference(errors, theirs) if errors.keys() & theirs.keys() else None,
        published=_published(section, row, dataset, numbers),
        diverged=len(section.of(row, dataset, "diverged")),
        top5=summarize(top5) if top5 and section.experiment.top5 else None,
        published_top5=_published(section, row, dataset, numbers, "top5"),
        validation=summarize(validation.values()) if validation else None,
    )


def _published(
    section: Section, row: str, dataset: str, numbers: PublishedNumbers, metric: str = "top1"
) -> Published | None:
    """None for a row or data of another kind: the images of a folder are not those that the number is of."""
    known, data = section.experiment.row(row), section.experiment.datasets.get(dataset)
    if not known or not data or not all(map(is_what_it_stands_for, section.of(dataset=dataset))):
        return None
    return numbers.find(known.published, data, metric)
