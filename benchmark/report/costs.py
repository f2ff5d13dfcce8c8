"""What a row of a table cost to train: the least of its runs, since other work on the machine only adds."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmark.ledger import Record
from benchmark.report.numbers import number


@dataclass(frozen=True)
class Cost:
    """The least over the finished runs of a row on one ``device``; None where nothing was measured.

    ``seconds_per_epoch`` (evaluation included) and ``images_per_second`` (training alone) are of the fastest epoch,
    ``hours`` and ``kilowatt_hours`` are of a whole run.
    """

    device: str | None
    seconds_per_epoch: float | None
    images_per_second: float | None
    peak_memory_bytes: int | None
    hours: float | None
    kilowatt_hours: float | None


def usual_device(records: Iterable[Record], preferred: str | None = None) -> str | None:
    """The device of most runs, ``preferred`` if others have as many; None if there are no runs."""
    counts = Counter(record.device for record in records)
    return min(counts, key=lambda device: (-counts[device], device != preferred, device), default=None)


def summarize_cost(records: Iterable[Record], usual: str | None) -> Cost:
    """The cost of a row's finished runs on the device of most of them, on the table's ``usual`` one if as many."""
    records = list(records)
    device = usual_device(records, usual)
    records = [record for record in records if record.device == device]
    seconds, joules = _least(records, "seconds"), _least(records, "joules")
    return Cost(
        device=device,
        seconds_per_epoch=min(filter(None, map(fastest_epoch, records)), default=None),
        images_per_second=max(filter(None, map(images_per_second, records)), default=None),
        peak_memory_bytes=_least(records, "peak_memory_bytes"),
        hours=seconds / 3600 if seconds else None,
        kilowatt_hours=joules / 3.6e6 if joules else None,
    )


def fastest_epoch(record: Record) -> float | None:
    """Seconds of a run's fastest epoch, evaluation included."""
    return min(_column(record, "seconds"), default=number(record.result.get("seconds_per_epoch")))


def images_per_second(record: Record) -> float | None:
    """Training images a second in a run's fastest epoch; the record's own rate is that of the median epoch."""
    rate, seconds = number(record.result.get("images_per_second")), _column(record, "train_seconds")
    return rate * median(seconds) / min(seconds) if rate and seconds else rate


def _column(record: Record, name: str) -> list[float]:
    return [value for row in record.metrics if (value := number(row.get(name))) is not None]


def _least(records: Iterable[Record], name: str) -> Any:
    return min((value for r in records if (value := number(r.result.get(name)))), default=None)
