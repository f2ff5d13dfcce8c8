"""Measured times of a training step, as a csv table that is kept, and read to plan for the device it is of.

Two kinds of table are read: those that ``plan --save-step-times`` writes, and the speed tables of a device
(``tables/speed-<device>-loops.csv``), whose networks see 32 x 32 images and have ten classes.
"""

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from benchmark.arguments import parse_definition, parse_network
from benchmark.complexity import complexity
from benchmark.errors import UserError
from benchmark.ledger import WriteError, write_atomically
from benchmark.specs import NetworkSpec
from benchmark.speed.loops import IMAGE_SIZE, NUM_CLASSES

COLUMNS = (
    "network",
    "options",
    "definition",
    "multiply-adds",
    "batch size",
    "precision",
    "ms",
    "device",
    "torch",
    "commit",
)
LOCK_SECONDS = 60
"""To wait for another command that adds to the same table, which takes milliseconds."""

NEWER = "definition"
"""The one column that older tables lack; their networks are of definition 1."""
ON_DEMAND = ("compiled-graphs", "reduce-overhead")
"""Ways to run a network, now and before, that ``--compile auto`` takes nowhere: a plan does not count on them, nor
on compiled code on a CPU."""
SAME_SIZE = 0.01
"""Networks whose multiply-adds differ by less are of one size, such as those for 10 and for 100 classes."""


@dataclass(frozen=True)
class StepTime:
    """``multiply_adds`` are of one image; ``seconds`` of a step, the fastest that was measured."""

    network: NetworkSpec
    multiply_adds: int
    batch_size: int
    precision: str
    seconds: float


@dataclass(frozen=True)
class StepTimes:
    """A device's times, and the table that they come from."""

    path: Path
    rows: tuple[StepTime, ...]

    def seconds_per_image(self, network: NetworkSpec, multiply_adds: int, batch_size: int) -> tuple[float, bool]:
        """Of the network, or by multiply-adds from the one of its kind that is nearest in size.

        A batch of another size is never taken: small ones leave a GPU idle, by how much only a measurement tells.

        Returns:
            The time, and whether it was scaled.

        Raises:
            UserError: no network of its kind was measured with this batch.
        """
        alike = [row for row in self.rows if kind(row.network) == kind(network) and row.batch_size == batch_size]
        if not alike:
            raise UserError(
                f"{self.path} has no step of {_text(network)} with a batch of {batch_size}; measure it on that "
                "device: python -m benchmark plan ... --save-step-times FILE"
            )
        distance = min(_distance(row.multiply_adds, multiply_adds) for row in alike)
        near = (row for row in alike if _distance(row.multiply_adds, multiply_adds) < distance + SAME_SIZE)
        fastest = min(row.seconds * multiply_adds / row.multiply_adds for row in near)
        return fastest / batch_size, distance >= SAME_SIZE


def without_dropout(network: NetworkSpec) -> NetworkSpec:
    """It costs next to nothing, unless it keeps the network from being replayed as CUDA graphs."""
    if network.draws_masks_twice:
        return network
    options = {name: value for name, value in network.options.items() if name != "dropout"}
    return replace(network, options=options)


def kind(network: NetworkSpec) -> str:
    """What networks share that differ in size alone: the name without its depth, the definition and the options."""
    options = _without_size(network)
    return re.sub(r"\d+$", "", network.name) + json.dumps([network.definition, options], sort_keys=True)


def read_step_times(path: Path, precision: str = "auto") -> StepTimes:
    """The times of a table, in one precision or ("auto") in any, since runs then take the faster one.

    Raises:
        UserError: there is no such table, or it is not one of step times; says which line is wrong.
    """
    rows = []
    on_demand = (*ON_DEMAND, "default") if Path(path).name.startswith("speed-cpu-") else ON_DEMAND
    for number, line in enumerate(_read(path)[1], 2):
        try:
            row = _step_time(line)
        except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError, RuntimeError, UserError) as error:
            reason = f"no column {error}" if isinstance(error, KeyError) else str(error).partition("\n")[0]
            raise UserError(f"{path}, line {number}, is not a step time: {reason}") from error
        if precision in ("auto", row.precision) and line.get("compile") not in on_demand:
            rows.append(row)
    if not rows:
        wanted = "step times" if precision == "auto" else f"step times in {precision}"
        raise UserError(f"{path} has no {wanted}; it must be a table of `make speed` or of plan --save-step-times")
    return StepTimes(path, tuple(rows))


def _step_time(line: Mapping[str, str]) -> StepTime:
    named = parse_network(line["network"]).network
    options = {**named.options, **json.loads(line.get("options") or "{}")}
    network = NetworkSpec(named.name, options, parse_definition(line.get(NEWER)))
    multiply_adds = line.get("multiply-adds") or complexity(network, NUM_CLASSES, (3, IMAGE_SIZE, IMAGE_SIZE))[1]
    ms, batch_size = float(line.get("ours ms") or line["ms"]), int(line["batch size"])
    if not all(0 < number < 1e18 for number in (ms, batch_size, int(multiply_adds))):
        numbers = f"{ms:g} ms, batch size {batch_size}, {multiply_adds} multiply-adds"
        raise ValueError(f"{numbers}; all must be positive, and below 1e18")
    return StepTime(network, int(multiply_adds), batch_size, line["precision"], ms / 1000)


def check_step_times(path: Path, device: str) -> None:
    """See that times of a device can be added to the table, if it is there at all.

    Raises:
        UserError: it is another table, or of another device.
    """
    if not path.exists():
        return
    columns, lines = _read(path)
    older = tuple(name for name in COLUMNS if name != NEWER)
    if tuple(columns) not in (COLUMNS, older) or any(set(line) != set(columns) for line in lines):
        raise UserError(f"{path} is not a table of plan --save-step-times; give another name")
    for line in lines:
        if line["device"] != device:
            raise UserError(f"{path} is of {line['device']}, not of {device}; give another name")
        try:
            parse_definition(line.get(NEWER))
        except ValueError as error:
            raise UserError(f"{path} cannot be added to: {error}") from error


def add_step_times(path: Path, times: Iterable[StepTime], origin: Mapping[str, Any]) -> None:
    """Write times below those that the table has; of one network the fastest counts, so repeating it mends noise.

    Args:
        origin: device, torch (its version) and commit.

    Raises:
        UserError: it is another table, of another device, or cannot be written.
    """
    lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=LOCK_SECONDS, mode=0o666)
    try:
        lock.acquire()  # another command may add to it, too
    except (OSError, Timeout) as error:
        raise WriteError(f"cannot write {path}: {getattr(error, 'strerror', None) or error}") from error
    try:
        _add(path, times, origin)
    finally:
        lock.release()


def _add(path: Path, times: Iterable[StepTime], origin: Mapping[str, Any]) -> None:
    check_step_times(path, origin["device"])
    before = _read(path)[1] if path.exists() else []
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(before)
    for time in times:
        writer.writerow(
            {
                "network": time.network.name,
                "options": json.dumps(time.network.options, sort_keys=True),
                NEWER: time.network.definition,
                "multiply-adds": time.multiply_adds,
                "batch size": time.batch_size,
                "precision": time.precision,
                "ms": f"{1000 * time.seconds:.5g}",
                **origin,
            }
        )
    write_atomically(path, text.getvalue())


def _read(path: Path) -> tuple[Sequence[str], list[dict[str, str]]]:
    """The columns and the lines."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            return reader.fieldnames or (), list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"step times {path} cannot be read: {reason}") from error


def _distance(one: int, other: int) -> float:
    return abs(math.log(one / other))


def _without_size(network: NetworkSpec) -> dict[str, Any]:
    return {name: value for name, value in without_dropout(network).options.items() if name != "depth"}


def _text(network: NetworkSpec) -> str:
    options = [f"{name}={value}" for name, value in _without_size(network).items()]
    if network.definition > 1:
        options.append(f"definition {network.definition}")
    return network.name + (f" ({','.join(options)})" if options else "")
