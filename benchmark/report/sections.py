"""Records sorted into sections: what may stand in one table, since it was measured under one protocol.

A section is a profile, a copy of the data ("CIFAR-10" and "CIFAR-10 (JPEG copy)" are two) and a validation split.
Inside it every finished run has the recipe of the others and, on a data set, its bytes; else the table is refused.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmark.errors import UserError
from benchmark.ledger import FINISHED, Record, read_records
from benchmark.report.costs import usual_device
from benchmark.report.published import TITLES
from benchmark.specs import DEVICE_SETTINGS, Experiment, to_dict

PAPER = "paper"
"""The profile of the published protocol."""

UNTABULATED = "smoke"
TEST_IMAGES = {"cifar10": 10_000, "cifar100": 10_000}
TABULATED = ("test_error", "parameters", "multiply_adds", "seconds_per_epoch")


@dataclass(frozen=True)
class Section:
    """The records of one profile on one copy of the data, in the experiment's order."""

    experiment: Experiment
    profile: str
    copy: str
    records: tuple[Record, ...]
    superseded: tuple[Record, ...] = ()
    """Finished runs of an older definition of their row's network, which no table has any more."""
    shares_slug: bool = False
    """Whether another section of the experiment has a name that differs in signs or capitals alone."""

    @property
    def title(self) -> str:
        """E.g. ``short profile, CIFAR-10 (JPEG copy)``."""
        return f"{self.profile} profile, {self.data}" + (f", {self.held_out} held out" if self.held_out else "")

    @property
    def held_out(self) -> int:
        """Training images that the curves were read from instead of the test images; 0 for none."""
        return self.records[0].cell.data.validation

    @property
    def data(self) -> str:
        """Names of the data, e.g. ``CIFAR-10 and CIFAR-100``."""
        names = dict.fromkeys(data_name(self.of(dataset=d)[0]) for d in self.datasets)
        return " and ".join(names)

    @property
    def slug(self) -> str:
        """Profile and copy, fit for a file's name, and one of its own."""
        slug = re.sub(r"[^a-z0-9]+", "-", f"{self.profile} {self.copy}".lower()).strip("-")
        digest = hashlib.sha256(self.copy.encode(errors="replace")).hexdigest()[:6]
        return f"{slug}-{digest}" if self.shares_slug else slug

    @property
    def usual_device(self) -> str | None:
        """The device of most finished runs, on which costs are compared."""
        return usual_device(self.of(status="done"))

    @property
    def rows(self) -> list[str]:
        """Keys of the rows with a record: the experiment's order, then others by name."""
        return in_order((r.cell.row for r in self.records), [row.key for row in self.experiment.rows])

    @property
    def datasets(self) -> list[str]:
        """Data sets with a record: the experiment's order, then others by name."""
        return in_order((r.cell.dataset for r in self.records), self.experiment.datasets)

    def of(self, row: str | None = None, dataset: str | None = None, status: str | None = None) -> list[Record]:
        """Records of a row, a data set and a status; None means any."""
        return [
            r
            for r in self.records
            if row in (None, r.cell.row) and dataset in (None, r.cell.dataset) and status in (None, r.status)
        ]

    def label(self, row: str) -> str:
        """What the table calls a row."""
        return self.experiment.label(row)

    def baseline(self, row: str) -> str | None:
        """The row that it is compared with; None if it is a baseline itself or unknown to the experiment."""
        return self.experiment.baseline(row)


def read_runs(results: Path, experiment: str) -> list[Record]:
    """Every record of an experiment.

    Raises:
        UserError: the results directory is missing, there is no record, or one is damaged.
    """
    if not Path(results).is_dir():
        raise UserError(f"results directory {results} does not exist")
    records = read_records(results, experiment)
    if not records:
        raise _no_runs(results, experiment)
    return records


def read_sections(experiment: Experiment, results: Path) -> list[Section]:
    """The sections of an experiment that its report shows, without smoke runs; profiles in the experiment's order.

    Raises:
        UserError: no finished run, a damaged record, or runs that differ in what they mean.
    """
    runs = read_runs(results, experiment.name)
    shown = [r for r in runs if experiment.tabulates(r.cell.row)]
    sections = make_sections(experiment, shown)
    if not sections:
        smoke = any(r.cell.profile == UNTABULATED for r in runs)
        hint = f" ({UNTABULATED} runs are never tabulated)" if smoke else ""
        if len(shown) < len(runs):
            hint = " of its own rows, which alone it tabulates"
        raise _no_runs(results, experiment.name, hint)
    return sections


def make_sections(experiment: Experiment, runs: Iterable[Record]) -> list[Section]:
    """Runs as sections, without smoke runs; none if no run finished. Profiles in the experiment's order.

    Raises:
        UserError: runs that differ in what they mean, or that lack what a table needs.
    """
    records = [r for r in runs if r.cell.profile != UNTABULATED]
    if not any(r.status in FINISHED for r in records):
        return []
    places = by_place(records)
    profiles = in_order((profile for profile, _ in places), experiment.profiles)
    sections = []
    for place in sorted(places, key=lambda place: (profiles.index(place[0]), place[1])):
        found = places[place]
        own = of_newest_definitions(found)
        done = [r for r in own if r.status == "done"]
        _refuse_incomplete(done)
        if conflict := _find_conflict(done):
            raise conflict.error
        superseded = tuple(r for r in found if r.status == "done" and r not in own)
        sections.append(Section(experiment, *place, tuple(own), superseded))
    slugs = Counter(section.slug for section in sections)
    return [replace(section, shares_slug=slugs[section.slug] > 1) for section in sections]


def refuse_unlike(planned: Iterable[Record], runs: Iterable[Record]) -> None:
    """Refuse planned runs, before training, with which none of their experiment's tables could be made.

    Args:
        planned: as they will be once they are done.
        runs: the experiment's records.

    Raises:
        UserError: a planned run could not stand in one table with those that are done, or two of these cannot.
    """
    planned = [r for r in planned if r.cell.profile != UNTABULATED]
    if not planned:
        return
    records = [*(r for r in runs if r.status == "done" and r.cell.profile != UNTABULATED), *planned]
    for found in by_place(records).values():
        conflict = _find_conflict(of_newest_definitions(found))
        if conflict and conflict.second in planned:
            raise UserError(
                f"{conflict.second.cell.name}, seed {conflict.second.seed}, could not stand in one table with "
                f"{conflict.first.path}: {conflict.difference}; leave it out, or give it a --results-dir of its own"
            )
        if conflict:
            raise conflict.error


def by_place(records: Iterable[Record]) -> dict[tuple[str, str], list[Record]]:
    """By the section that records belong to: profile and copy of the data."""
    places: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        places.setdefault((record.cell.profile, data_copy(record)), []).append(record)
    return places


def data_label(dataset: str) -> str:
    """The literature's short name: ``C10+`` for ``cifar10+``."""
    return dataset.replace("cifar", "C")


def data_name(record: Record) -> str:
    """The data as its source names it, e.g. ``CIFAR-10 (JPEG copy)``."""
    identity = record.result.get("data") or {}
    return (
        identity.get("name") or record.cell.data.source or TITLES.get(record.cell.data.name, record.cell.data.name)
    )


def is_what_it_stands_for(record: Record) -> bool:
    """Whether the data is the data set of its title, perhaps in a copy, and not other images in its place."""
    name = record.cell.data.name
    return data_name(record).startswith(TITLES.get(name, name))


def data_copy(record: Record) -> str:
    """What tells the data from the whole official release: ``JPEG copy``, ``5000 held out``, both or nothing."""
    name, validation = record.cell.data.name, record.cell.data.validation
    copy = data_name(record).removeprefix(TITLES.get(name, name)).strip(" ()")
    return ", ".join(filter(None, [copy, f"{validation} held out" if validation else ""]))


def test_images(record: Record) -> int | None:
    """How many the test error is of; None for records from before this was recorded, of unknown data."""
    return record.result.get("test_images") or TEST_IMAGES.get(record.cell.data.name)


def recipe_fields(record: Record) -> dict[str, Any]:
    """The recipe without the settings that follow the device."""
    return {k: v for k, v in to_dict(record.cell.recipe).items() if k not in DEVICE_SETTINGS}


def differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """Names of the fields in which two mappings differ, in a's order."""
    return [name for name in {**a, **b} if a.get(name) != b.get(name)]


def _meanings(record: Record) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """What must agree in a section, each with the scope in which it must."""
    cell = record.cell
    yield ("recipe",), recipe_fields(record)
    yield ("data", cell.dataset), to_dict(cell.data)
    yield ("network", cell.row, cell.dataset), to_dict(cell.network)
    yield ("run of this seed", cell.row, cell.dataset, str(record.seed)), to_dict(cell.recipe)


def of_newest_definitions(records: Sequence[Record]) -> list[Record]:
    """Without the runs of a row's network as it was defined before those that finished of it."""
    newest: dict[tuple[str, str], int] = {}
    for record in records:
        if record.status in FINISHED:
            key = record.cell.row, record.cell.network.name
            newest[key] = max(newest.get(key, 0), record.cell.network.definition)
    return [r for r in records if r.cell.network.definition >= newest.get((r.cell.row, r.cell.network.name), 0)]


def _refuse_incomplete(records: Iterable[Record]) -> None:
    for record in records:
        if lacking := [name for name in TABULATED if record.result.get(name) is None]:
            raise UserError(f"{record.path / 'result.json'} lacks {', '.join(lacking)}; remove it to run again")


@dataclass(frozen=True)
class _Conflict:
    """Two runs that cannot stand in one table."""

    first: Record
    second: Record
    difference: str

    @property
    def error(self) -> UserError:
        return UserError(
            f"cannot put {self.first.path} and {self.second.path} in one table: {self.difference}; "
            "move one of the two folders away"
        )


def _find_conflict(records: Iterable[Record]) -> _Conflict | None:
    seen: dict[tuple[str, ...], tuple[Record, dict[str, Any]]] = {}
    for record in records:
        for scope, meaning in _meanings(record):
            first, expected = seen.setdefault(scope, (record, meaning))
            if names := differing(expected, meaning):
                changes = ", ".join(f"{n} {expected.get(n)!r} and {meaning.get(n)!r}" for n in names)
                return _Conflict(first, record, f"their {scope[0]} differs ({changes})")
    return None


def in_order(found: Iterable[str], known: Iterable[str]) -> list[str]:
    """Every name found: the known order, then others by name."""
    found = set(found)
    known = [name for name in known if name in found]
    return known + sorted(found - set(known))


def _no_runs(results: Path, experiment: str, hint: str = "") -> UserError:
    folder = Path(results) / "runs" / experiment
    return UserError(
        f"no finished runs of {experiment!r} under {folder}{hint}; run `python -m benchmark run {experiment}` first"
    )
