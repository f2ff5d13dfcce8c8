"""What a grid will do and what it will cost, before anything is trained."""

import contextlib
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmark import estimate, machine
from benchmark.complexity import complexity
from benchmark.data import Source
from benchmark.duration import format_duration
from benchmark.errors import UserError
from benchmark.ledger import FINISHED, RunFolder
from benchmark.schedule import enough_devices, simulate
from benchmark.specs import DEVICE_SETTINGS, Cell, Experiment
from benchmark.step_times import StepTime, StepTimes, without_dropout


@dataclass(frozen=True)
class PlannedRun:
    """A run, its row's label, and what it costs.

    ``seconds`` is the whole run's estimate; ``is_scaled`` if it comes from a network of another size.
    """

    folder: RunFolder
    row: str
    parameters: int
    multiply_adds: int
    seconds_per_image: float
    seconds: float
    status: str
    is_scaled: bool = False

    @property
    def cell(self) -> Cell:
        return self.folder.cell

    @property
    def label(self) -> str:
        return f"{self.row} on {self.cell.dataset}, seed {self.folder.seed}"

    @property
    def seconds_left(self) -> float:
        if self.status in FINISHED:
            return 0.0
        return self.seconds * (1 - self._epochs_trained() / self.cell.recipe.epochs)

    def _epochs_trained(self) -> int:
        """0 for a damaged table, which the run rewrites from a checkpoint; without one only that run fails."""
        if self.cell.recipe.loop == "reference":  # it starts anew
            return 0
        with contextlib.suppress(UserError):
            return len(self.folder.read_metrics())
        return 0


def make_plan(
    experiment: Experiment,
    cells: Iterable[tuple[Cell, Source]],
    seeds: Iterable[int],
    results: Path,
    device: str,
    step_times: StepTimes | None = None,
) -> list[PlannedRun]:
    """Every run of the cells with its cost; each network that is still to be trained is measured for a few steps.

    With ``step_times`` nothing is measured: they are the times, of whatever device.

    A network that cannot be measured, e.g. for lack of memory, gets a warning and counts as no time: its run will
    say why it fails; the others are run.

    Runs of one seed come before those of the next, so that a grid that is stopped early has whole tables.

    Raises:
        UserError: ``step_times`` lack a network.
    """
    cells, seeds = list(cells), list(seeds)
    times = MeasuredTimes(device, step_times)
    runs = []
    for seed in seeds:
        for cell, source in cells:
            folder = RunFolder(results, cell, seed)
            status = folder.status()
            parameters, multiply_adds = complexity(cell.network, source.num_classes, source.image_shape)
            per_image, is_scaled = (
                (0.0, False) if status in FINISHED else times.seconds_per_image(cell, source, multiply_adds)
            )
            runs.append(
                PlannedRun(
                    folder=folder,
                    row=experiment.label(cell.row),
                    parameters=parameters,
                    multiply_adds=multiply_adds,
                    seconds_per_image=per_image,
                    seconds=estimate.seconds_per_run(cell, source, per_image),
                    status=status,
                    is_scaled=is_scaled,
                )
            )
    return runs


class MeasuredTimes:
    """The times of steps: each network is measured once, or looked up."""

    def __init__(self, device: str, step_times: StepTimes | None) -> None:
        self.device, self.step_times = device, step_times
        self.measured: dict[str, float] = {}

    def seconds_per_image(self, cell: Cell, source: Source, multiply_adds: int) -> tuple[float, bool]:
        """And whether it was scaled from a network of another size."""
        if self.step_times:
            return self.step_times.seconds_per_image(cell.network, multiply_adds, cell.recipe.batch_size)
        key = self._key(cell, source)
        if key not in self.measured:
            self.measured[key] = self._measure(cell, source)
        return self.measured[key], False

    def _measure(self, cell: Cell, source: Source) -> float:
        try:
            seconds = estimate.seconds_per_image(cell, source.num_classes, source.image_shape, self.device)
            return seconds / cell.recipe.devices if self.device == "cuda" else seconds  # processes share a CPU
        except Exception as error:
            reason = str(error).partition("\n")[0] or type(error).__name__
            print(f"warning: the time of {cell.name} cannot be measured: {reason}", file=sys.stderr)
            return 0.0
        finally:
            machine.free_memory(self.device)

    @staticmethod
    def _key(cell: Cell, source: Source) -> str:
        """What a step's time depends on."""
        network, recipe = without_dropout(cell.network), cell.recipe
        settings = [getattr(recipe, name) for name in ("batch_size", *DEVICE_SETTINGS)]
        return repr((network.name, network.options, source.image_shape, source.num_classes, settings))


def measured_steps(runs: Iterable[PlannedRun]) -> list[StepTime]:
    """The step of each network that was measured, of our own path."""
    steps = {}
    for run in runs:
        recipe, network = run.cell.recipe, without_dropout(run.cell.network)
        if run.seconds_per_image and recipe.loop != "reference":
            seconds = run.seconds_per_image * recipe.batch_size
            step = StepTime(network, run.multiply_adds, recipe.batch_size, recipe.precision, seconds)
            steps[repr(step)] = step
    return list(steps.values())


def print_plan(runs: Sequence[PlannedRun], console: Console, step_times: StepTimes | None = None) -> None:
    """A line for each row on a data set, with its seeds together, and the sum."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("network", overflow="fold")
    table.add_column("data")
    for name in ("parameters", "mult-adds", "epochs", "time left", "done"):
        table.add_column(name, justify="right", no_wrap=True)
    cells: dict[str, list[PlannedRun]] = {}
    for run in runs:
        cells.setdefault(run.cell.name, []).append(run)
    for seeds in cells.values():
        run = seeds[0]
        left = sum(r.seconds_left for r in seeds)
        scaled = "≈ " if any(r.is_scaled for r in seeds) else ""
        table.add_row(
            escape(run.row),
            escape(run.cell.dataset),
            f"{run.parameters:,}",
            f"{run.multiply_adds / 1e6:.1f} M",
            str(run.cell.recipe.epochs),
            scaled + format_duration(left) if left else "",
            f"{sum(r.status in FINISHED for r in seeds)}/{len(seeds)}",
        )
    console.print(table)
    done = sum(run.status in FINISHED for run in runs)
    left = format_duration(sum(run.seconds_left for run in runs))
    data = ", ".join(sorted({run.cell.data.source for run in runs}))
    where = f"on one device of {step_times.path}" if step_times else "on this machine"
    text = f"{len(runs)} runs on {data}, {done} done; about {left} left {where}."
    console.print(text, soft_wrap=True, markup=False)
    if any(run.is_scaled for run in runs):
        note = "≈ is not measured there, but scaled by multiply-adds from the network of its kind nearest in size."
        console.print(note, soft_wrap=True)


def print_schedules(
    runs: Iterable[PlannedRun], devices: Sequence[int], price: float | None, console: Console
) -> None:
    """A line for each number of devices: when what is left would end, at what cost, and why not sooner.

    Args:
        price: of an hour of one device; None for no costs.
    """
    left = [run for run in runs if run.seconds_left]
    if not left:
        console.print("Nothing is left to be scheduled.")
        return
    seconds = [run.seconds_left for run in left]
    table = Table(box=box.SIMPLE_HEAD)
    costs = ["cost"] if price is not None else []
    for name in ("devices", "makespan", "speed-up", "idle", "device-hours", *costs):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("limited by")
    for count in devices:
        schedule = simulate(seconds, count)
        hours = schedule.held / 3600
        cost = [f"{hours * price:,.2f}"] if price is not None else []
        table.add_row(
            f"{count:,}",
            format_duration(schedule.makespan),
            f"{schedule.speed_up:.1f}",
            f"{100 * schedule.idle_share:.1f} %",
            f"{hours:,.1f}",
            *cost,
            schedule.limit,
        )
    console.print(table)
    longest = max(left, key=lambda run: run.seconds_left)
    console.print(
        "One run a device, the longest first; every device is held until the last run ends. The longest run, "
        f"{longest.row} on {longest.cell.dataset}, takes {format_duration(longest.seconds_left)}; with "
        f"{enough_devices(seconds):,} or more devices all others end by then, and only fewer epochs or several "
        "devices for one run would help.",
        markup=False,
    )
