"""What a row of a table cost to train: the least of its runs, since other work on the machine only adds."""

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from benchmark.ledger import Record


@dataclass(frozen=True)
class Cost:
    """The least over the finished runs of a row; None where nothing was measured.

    ``seconds_per_epoch`` (evaluation included) and ``images_per_second`` (training alone) are of the fastest epoch,
    ``hours`` and ``kilowatt_hours`` are of a whole run.
    """

    seconds_per_epoch: float | None
    images_per_second: float | None
    peak_memory_bytes: int | None
    hours: float | None
    kilowatt_hours: float | None


def summarize_cost(records: Iterable[Record]) -> Cost:
    """The cost of a row's finished runs."""
    records = list(records)
    memory = [m for r in records if (m := r.result.get("peak_memory_bytes"))]
    seconds = [s for r in records if (s := r.result.get("seconds"))]
    joules = [j for r in records if (j := r.result.get("joules"))]
    rates = [rate for r in records if (rate := images_per_second(r))]
    return Cost(
        seconds_per_epoch=min(map(fastest_epoch, records), default=None),
        images_per_second=max(rates, default=None),
        peak_memory_bytes=min(memory, default=None),
        hours=min(seconds) / 3600 if seconds else None,
        kilowatt_hours=min(joules) / 3.6e6 if joules else None,
    )


def fastest_epoch(record: Record) -> float:
    """Seconds of a run's fastest epoch, evaluation included."""
    return min((row["seconds"] for row in record.metrics), default=record.result["seconds_per_epoch"])


def images_per_second(record: Record) -> float | None:
    """Training images a second in a run's fastest epoch; the record's own rate is that of the median epoch."""
    rate = record.result.get("images_per_second")
    seconds = [row["train_seconds"] for row in record.metrics if "train_seconds" in row]
    return rate * median(seconds) / min(seconds) if rate and seconds else rate
