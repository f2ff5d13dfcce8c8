"""What a grid will do and what it will cost, before anything is trained."""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from benchmark import estimate, machine
from benchmark.complexity import complexity
from benchmark.data import Source
from benchmark.duration import format_duration
from benchmark.ledger import FINISHED, RunFolder
from benchmark.specs import Cell, Experiment


@dataclass(frozen=True)
class PlannedRun:
    """A run, its row's label, and what it costs. ``seconds`` is the whole run's estimate."""

    folder: RunFolder
    row: str
    parameters: int
    multiply_adds: int
    seconds: float
    status: str

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
        trained = len(self.folder.read_metrics())
        return self.seconds * (1 - trained / self.cell.recipe.epochs)


def make_plan(
    experiment: Experiment, cells: Iterable[tuple[Cell, Source]], seeds: Iterable[int], results: Path, device: str
) -> list[PlannedRun]:
    """Every run of the cells with its cost; each network that is still to be trained is measured for a few steps.

    One that cannot be measured, such as for want of memory, costs a warning and counts as no time: its run will say
    why it fails, and the others are run.

    Runs of one seed come before those of the next, so that a grid that is stopped early has whole tables.
    """
    cells, seeds = list(cells), list(seeds)
    costs = Costs(device)
    runs = []
    for seed in seeds:
        for cell, source in cells:
            folder = RunFolder(results, cell, seed)
            status = folder.status()
            row = experiment.row(cell.row)
            parameters, multiply_adds = costs.complexity(cell, source)
            per_image = 0.0 if status in FINISHED else costs.seconds_per_image(cell, source)
            runs.append(
                PlannedRun(
                    folder=folder,
                    row=row.label if row else cell.row,
                    parameters=parameters,
                    multiply_adds=multiply_adds,
                    seconds=estimate.seconds_per_run(cell, source, per_image),
                    status=status,
                )
            )
    return runs


class Costs:
    """Counts and measures each network once."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.counted: dict[str, tuple[int, int]] = {}
        self.measured: dict[str, float] = {}

    def complexity(self, cell: Cell, source: Source) -> tuple[int, int]:
        key = self._key(cell, source)
        if key not in self.counted:
            self.counted[key] = complexity(cell.network, source.num_classes, source.image_shape)
        return self.counted[key]

    def seconds_per_image(self, cell: Cell, source: Source) -> float:
        key = self._key(cell, source)
        if key not in self.measured:
            self.measured[key] = self._measure(cell, source)
        return self.measured[key]

    def _measure(self, cell: Cell, source: Source) -> float:
        try:
            return estimate.seconds_per_image(cell, source.num_classes, source.image_shape, self.device)
        except Exception as error:
            reason = str(error).partition("\n")[0] or type(error).__name__
            print(f"warning: the time of {cell.name} cannot be measured: {reason}", file=sys.stderr)
            return 0.0
        finally:
            machine.free_memory(self.device)

    @staticmethod
    def _key(cell: Cell, source: Source) -> str:
        """What the costs depend on; dropout costs next to nothing."""
        options = {name: value for name, value in cell.network.options.items() if name != "dropout"}
        return repr((cell.network.name, options, source.image_shape, source.num_classes, cell.recipe.batch_size))


def print_plan(runs: Sequence[PlannedRun], console: Console) -> None:
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
        table.add_row(
            run.row,
            run.cell.dataset,
            f"{run.parameters:,}",
            f"{run.multiply_adds / 1e6:.1f} M",
            str(run.cell.recipe.epochs),
            format_duration(left) if left else "",
            f"{sum(r.status in FINISHED for r in seeds)}/{len(seeds)}",
        )
    console.print(table)
    done = sum(run.status in FINISHED for run in runs)
    left = format_duration(sum(run.seconds_left for run in runs))
    data = ", ".join(sorted({run.cell.data.source for run in runs}))
    console.print(f"{len(runs)} runs on {data}, {done} done; about {left} left on this machine.", soft_wrap=True)
