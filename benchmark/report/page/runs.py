"""Every run: a line of a table that can be sorted, and its details."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmark.ledger import Record
from benchmark.report.costs import fastest_epoch
from benchmark.report.layout import NOTHING, magnitude, three_digits
from benchmark.report.numbers import number
from benchmark.report.page.records import Group
from benchmark.report.page.values import commit, mapping, settings, versions
from benchmark.report.sections import data_label, data_name
from benchmark.specs import Experiment, to_dict

MEGABYTE = 1e6
SPARKLINE = (160, 36)  # user units


@dataclass(frozen=True)
class Item:
    """A cell: its text, and the number that it sorts by; None for words and for what is missing."""

    text: str
    number: float | None = None


@dataclass(frozen=True)
class Line:
    id: str
    items: tuple[Item, ...]


@dataclass(frozen=True)
class Heading:
    name: str
    is_number: bool


@dataclass(frozen=True)
class RunTable:
    headings: tuple[Heading, ...]
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Sparkline:
    """Evaluation error by epoch: ``points`` of a polyline in a box of SPARKLINE, and its ends in percent."""

    points: str
    text: str


@dataclass(frozen=True)
class RunDetails:
    id: str
    title: str
    status: str
    facts: tuple[tuple[str, str], ...]
    curve: Sparkline | None


@dataclass(frozen=True)
class DetailsOfExperiment:
    name: str
    runs: tuple[RunDetails, ...]


Words = Callable[[Experiment, Record], str]
Number = Callable[[Record], Any]

WORDS: dict[str, Words] = {
    "experiment": lambda experiment, record: experiment.name,
    "data set": lambda experiment, record: data_label(record.cell.dataset),
    "profile": lambda experiment, record: record.cell.profile,
    "status": lambda experiment, record: record.status,
}
NUMBERS: dict[str, tuple[Number, Callable[[float], str]]] = {
    "seed": (lambda record: record.seed, str),
    "test error (%)": (lambda record: record.result.get("test_error"), "{:.2f}".format),
    "validation error (%)": (lambda record: record.validation_error, "{:.2f}".format),
    "epochs": (lambda record: record.result.get("epochs"), str),
    "time (s)": (lambda record: record.result.get("seconds"), "{:,.0f}".format),
    "s/epoch": (fastest_epoch, three_digits),
    "images/s": (lambda record: record.result.get("images_per_second"), "{:,.0f}".format),
    "peak memory (MB)": (lambda record: record.result.get("peak_memory_bytes"), lambda v: f"{v / MEGABYTE:,.0f}"),
}
CONTEXT: dict[str, Words] = {
    "precision": lambda experiment, record: str(record.result.get("precision") or NOTHING),
    "device": lambda experiment, record: record.device,
    "commit": lambda experiment, record: commit(record),
}


def run_table(groups: Sequence[Group]) -> RunTable:
    """All runs in the records' order; one experiment alone is not named in each line, nor what no run measured."""
    records = [record for group in groups for record in group.records]
    words = {name: read for name, read in WORDS.items() if name != "experiment" or len(groups) > 1}
    numbers = {
        name: (read, write)
        for name, (read, write) in NUMBERS.items()
        if any(number(read(record)) is not None for record in records)
    }
    headings = [
        Heading("run", False),
        *(Heading(name, False) for name in words),
        *(Heading(name, True) for name in numbers),
        *(Heading(name, False) for name in CONTEXT),
    ]
    lines = []
    for group in groups:
        for record in group.records:
            items = [
                Item(group.experiment.label(record.cell.row)),
                *(Item(read(group.experiment, record)) for read in words.values()),
                *(_number_item(read(record), write) for read, write in numbers.values()),
                *(Item(read(group.experiment, record)) for read in CONTEXT.values()),
            ]
            lines.append(Line(_id(record), tuple(items)))
    return RunTable(tuple(headings), tuple(lines))


def details(groups: Iterable[Group]) -> list[DetailsOfExperiment]:
    """What is known of each run, by experiment."""
    return [
        DetailsOfExperiment(group.experiment.name, tuple(_details(group.experiment, r) for r in group.records))
        for group in groups
    ]


def sparkline(record: Record) -> Sparkline | None:
    """The run's evaluation errors; None for fewer than two epochs."""
    errors = [error for row in record.metrics if (error := number(row.get("eval_error"))) is not None]
    if len(errors) < 2:
        return None
    width, height = SPARKLINE
    low, high = min(errors), max(errors)
    points = " ".join(
        f"{width * i / (len(errors) - 1):.1f},{height * (high - error) / ((high - low) or 1):.1f}"
        for i, error in enumerate(errors)
    )
    return Sparkline(points, f"from {errors[0]:.2f} to {errors[-1]:.2f} %")


def _details(experiment: Experiment, record: Record) -> RunDetails:
    label = f"{experiment.label(record.cell.row)}, {data_label(record.cell.dataset)}, seed {record.seed}"
    return RunDetails(_id(record), label, record.status, tuple(_facts(record)), sparkline(record))


def _facts(record: Record) -> list[tuple[str, str]]:
    result, cell = record.result, record.cell
    data = mapping(result.get("data"))
    last = record.metrics[-1] if record.metrics else {}
    facts = [
        ("run", f"runs/{cell.experiment}/{record.path.name}"),
        ("status", record.status),
        ("reason", str(result.get("reason") or NOTHING)),
        ("profile", cell.profile),
        ("seed", str(record.seed)),
        ("test error, last epoch (%)", _text(result.get("test_error"), "{:.2f}".format)),
        ("validation error, last epoch (%)", _text(record.validation_error, "{:.2f}".format)),
        ("best epoch's error (%), never the result", _text(result.get("best_eval_error"), "{:.2f}".format)),
        ("test loss", _text(result.get("test_loss"), "{:.4f}".format)),
        ("training error, last epoch (%)", _text(last.get("train_error"), "{:.2f}".format)),
        ("training loss, last epoch", _text(last.get("train_loss"), "{:.4f}".format)),
        ("parameters", _text(result.get("parameters"), lambda v: f"{v:,.0f} ({magnitude(v)})")),
        ("multiply-adds", _text(result.get("multiply_adds"), lambda v: f"{v:,.0f} ({magnitude(v)})")),
        ("epochs", _text(result.get("epochs"), str)),
        ("time (s)", _text(result.get("seconds"), "{:,.1f}".format)),
        ("mean epoch, fastest epoch (s)", _epochs(record)),
        ("images/s", _text(result.get("images_per_second"), "{:,.1f}".format)),
        ("peak memory (MB)", _text(result.get("peak_memory_bytes"), lambda v: f"{v / MEGABYTE:,.0f}")),
        ("energy (kJ)", _text(result.get("joules"), lambda v: f"{v / 1e3:,.1f}")),
        ("device", record.device),
        ("threads", _text(result.get("threads"), str)),
        ("precision", str(result.get("precision") or NOTHING)),
        ("commit", commit(record, None)),
        ("versions", versions(record)),
        ("data", f"{data_name(record)}, {data.get('source') or 'source unknown'}"),
        ("data checksum", str(data.get("checksum") or cell.data.checksum or NOTHING)),
        ("data options", settings({"augment": cell.data.augment, "validation": cell.data.validation})),
        ("network", cell.network.name),
        ("network options", settings(cell.network.options)),
        ("recipe", settings(to_dict(cell.recipe))),
    ]
    return [(name, text) for name, text in facts if name != "reason" or text != NOTHING]


def _epochs(record: Record) -> str:
    times = (number(record.result.get("seconds_per_epoch")), fastest_epoch(record))
    return ", ".join(map(three_digits, times))


def _id(record: Record) -> str:
    return f"run-{record.cell.experiment}-{record.path.name}"


def _number_item(value: Any, write: Callable[[float], str]) -> Item:
    return Item(_text(value, write), number(value))


def _text(value: Any, write: Callable[[float], str]) -> str:
    found = number(value)
    return NOTHING if found is None else write(found)
