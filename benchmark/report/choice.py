"""Model selection on held-out images: the lowest error on them, never on the test images."""

from collections.abc import Mapping
from dataclasses import dataclass

from benchmark.report.lines import validation_errors_by_seed
from benchmark.report.sections import Section
from benchmark.report.statistics import PairedDifference, paired_difference, summarize


@dataclass(frozen=True)
class Choice:
    """Of rows that are compared with one baseline, on one data set: the best of those with the most seeds.

    ``error`` is the mean error (percent) of the ``chosen`` row on the held-out images, over its ``seeds``;
    ``others`` are the other rows' differences to it (percentage points, paired by the seeds that both have).
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
    errors = {row: found for row in rows if (found := validation_errors_by_seed(section.of(row, dataset, "done")))}
    if not errors:
        return None
    most = max(map(len, errors.values()))
    rivals = {row: found for row, found in errors.items() if len(found) == most}
    first = next(iter(rivals.values()))
    seeds = set.intersection(*map(set, rivals.values())) or set(first)
    rivals = {row: found for row, found in rivals.items() if seeds <= found.keys()}
    means = {row: summarize([found[seed] for seed in seeds]).mean for row, found in rivals.items()}
    chosen = min(means, key=means.__getitem__)
    others = {
        row: paired_difference({seed: found[seed] for seed in found.keys() & seeds}, errors[chosen])
        for row, found in errors.items()
        if row != chosen and found.keys() & seeds
    }
    if not others:
        return None
    nearest = dict(sorted(others.items(), key=lambda item: item[1].mean))
    return Choice(dataset, baseline, chosen, means[chosen], tuple(sorted(seeds)), nearest)
