"""How large a difference the tables of a grid can show, with its seeds and with more."""

from collections.abc import Iterable, Iterator

from benchmark.ledger import Record
from benchmark.report.sections import UNTABULATED, by_place, of_newest_definitions
from benchmark.report.statistics import detectable
from benchmark.specs import Experiment

MORE_SEEDS = (5, 10)


def describe_power(experiment: Experiment, planned: Iterable[Record], found: Iterable[Record]) -> Iterator[str]:
    """A line for each table of comparisons that the planned runs will stand in, beside those that are done.

    Args:
        planned: as they will be once they are done.
        found: the experiment's records.
    """
    if experiment.report != "comparison":
        return
    planned = [record for record in planned if record.cell.profile != UNTABULATED]
    done = [record for record in found if record.status == "done"]
    together = by_place([*done, *planned])
    for place in by_place(planned):
        if pairs := pairs_by_seed(experiment, of_newest_definitions(together[place])):
            yield _line([count for count in pairs if count > 1])


def pairs_by_seed(experiment: Experiment, records: Iterable[Record]) -> list[int]:
    """Of each comparison in a table of these records, the number of seeds that a row and its baseline share."""
    seeds: dict[tuple[str | None, str], set[int]] = {}
    for record in records:
        seeds.setdefault((record.cell.row, record.cell.dataset), set()).add(record.seed)
    shared = (seeds[row, dataset] & seeds.get((experiment.baseline(row), dataset), set()) for row, dataset in seeds)
    return [len(pairs) for pairs in shared if pairs]


def _line(pairs: list[int]) -> str:
    """Of the comparisons that have two pairs at least, and with them an interval."""
    if not pairs:
        return "One seed's difference has no interval and is never significant."
    count, seeds = len(pairs), min(pairs)
    comparisons = f"{count} comparisons: one" if count > 1 else "1 comparison: it"
    counts = (seeds, *(more for more in MORE_SEEDS if more > seeds))
    found = ", ".join(f"{detectable(n, count):.1f} with {n}" for n in counts)
    return (
        f"{comparisons} is significant with 80 % power if its mean is this many standard deviations of the paired "
        f"differences, by number of seeds: {found}."
    )
