"""Which of several forms the held-out images choose: the lowest error on them, never on the test images."""

from collections.abc import Mapping
from dataclasses import dataclass

from benchmark.report.sections import Section
from benchmark.report.statistics import PairedDifference, paired_difference, summarize


@dataclass(frozen=True)
class Choice:
    """Rows that are compared with one baseline, on one data set, over the ``seeds`` that all of them have.

    ``error`` is the mean error (percent) of the ``chosen`` row on the held-out images; ``others`` are the other
    rows' differences to it (percentage points, paired by seed), the nearest first.
    """

    dataset: str
    baseline: str
    chosen: str
    error: float
    seeds: tuple[int, ...]
    others: Mapping[str, PairedDifference]


def choices(section: Section) -> list[Choice]:
    """A choice for each data set and baseline with two rows at least that share a seed with held-out images."""
    baselines = dict.fromkeys(filter(None, map(section.baseline, section.rows)))
    return [
        choice
        for dataset in section.datasets
        for baseline in baselines
        if (choice := _choose(section, dataset, baseline))
    ]


def _choose(section: Section, dataset: str, baseline: str) -> Choice | None:
    rows = [row for row in section.rows if section.baseline(row) == baseline]
    errors = {row: found for row in rows if (found := validation_errors(section, row, dataset))}
    seeds = sorted(set.intersection(*map(set, errors.values()))) if errors else []
    if len(errors) < 2 or not seeds:
        return None
    shared = {row: {seed: found[seed] for seed in seeds} for row, found in errors.items()}
    means = {row: summarize(found.values()).mean for row, found in shared.items()}
    chosen, *others = sorted(means, key=means.__getitem__)
    return Choice(
        dataset,
        baseline,
        chosen,
        means[chosen],
        tuple(seeds),
        {row: paired_difference(shared[row], shared[chosen]) for row in others},
    )


def validation_errors(section: Section, row: str, dataset: str) -> dict[int, float]:
    """Last epoch's error (percent) on the held-out images of each seed; empty if none were held out."""
    done = section.of(row, dataset, "done")
    return {record.seed: error for record in done if (error := record.validation_error) is not None}
