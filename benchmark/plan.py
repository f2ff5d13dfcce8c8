"""What a grid will do and what it will cost, before anything is trained."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from benchmark import estimate
from benchmark.complexity import complexity
from benchmark.data import Source
from benchmark.ledger import FINISHED, RunFolder
from benchmark.specs import Cell, Experiment


@dataclass(frozen=True)
class PlannedRun:
    """A run, what it is called on the screen, and what it costs. ``seconds`` is the whole run's estimate."""

    folder: RunFolder
    label: str
    parameters: int
    multiply_adds: int
    seconds: float
    status: str

    @property
    def cell(self) -> Cell:
        return self.folder.cell

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
                    label=f"{row.label if row else cell.row} on {cell.dataset}, seed {seed}",
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
            self.measured[key] = estimate.seconds_per_image(
                cell, source.num_classes, source.image_shape, self.device
            )
        return self.measured[key]

    @staticmethod
    def _key(cell: Cell, source: Source) -> str:
        """What the costs depend on; dropout costs next to nothing."""
        options = {name: value for name, value in cell.network.options.items() if name != "dropout"}
        return repr((cell.network.name, options, source.image_shape, source.num_classes, cell.recipe.batch_size))


def print_plan(runs: Sequence[PlannedRun], console: Console) -> None:
    """One line a run and the sum."""
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("run", "network"):
        table.add_column(name, overflow="fold")
    for name in ("parameters", "multiply-adds", "epochs", "estimate"):
        table.add_column(name, justify="right")
    table.add_column("status")
    for run in runs:
        options = ", ".join(f"{key}={value}" for key, value in run.cell.network.options.items())
        table.add_row(
            run.label,
            run.cell.network.name + (f" ({options})" if options else ""),
            f"{run.parameters:,}",
            f"{run.multiply_adds / 1e6:.1f} M",
            str(run.cell.recipe.epochs),
            estimate.format_duration(run.seconds_left) if run.status not in FINISHED else "",
            run.status,
        )
    console.print(table)
    done = sum(run.status in FINISHED for run in runs)
    left = estimate.format_duration(sum(run.seconds_left for run in runs))
    data = ", ".join(sorted({run.cell.data.source for run in runs}))
    console.print(f"{len(runs)} runs on {data}, {done} done; about {left} left on this machine.")
