"""Planning and running a grid as a command asks: which cells, on which devices, by which engine.

Imports no torch until the command was checked.
"""

import contextlib
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.arguments import parse_counts, parse_seeds
from benchmark.commands import Command, Plan, Run
from benchmark.errors import UserError, closest
from benchmark.launchers import Place, check_place, find_place
from benchmark.ledger import FINISHED, Record, RunFolder, read_records
from benchmark.ray_cluster import LOCAL, RayOptions
from benchmark.ray_cluster import check as check_ray
from benchmark.report.sections import refuse_unlike
from benchmark.reports import report
from benchmark.specs import Experiment

if TYPE_CHECKING:
    from rich.console import Console

    from benchmark.data import Source
    from benchmark.parallel import Execute
    from benchmark.plan import PlannedRun
    from benchmark.specs import Cell
    from benchmark.step_times import StepTimes
    from benchmark.tracking import Tracker

    Chosen = tuple[Cell, Source]

DAY = 86_400
DATA = Path("data")
ENGINES = ("inline", "ray")
MEASURING = "measuring a few steps of each network"


def plan_grid(experiment: Experiment, command: Plan) -> int:
    seeds, counts = _seeds(experiment, command), _device_counts(command)

    from rich.console import Console

    from benchmark import machine, plan
    from benchmark.power import describe_power

    console, device = Console(), machine.choose_device(command.device)
    step_times = _step_times(command, device)
    cells, problems = _select(experiment, command, device)
    planned, found = _left(command.results_dir, cells, seeds), _records(experiment, command.results_dir)
    try:
        refuse_unlike(planned, found)
    except UserError as refusal:
        print(f"note: these runs would be refused: {refusal}", file=sys.stderr)
    with console.status(MEASURING):
        runs = plan.make_plan(experiment, cells, seeds, command.results_dir, device, step_times)
    plan.print_plan(runs, console, step_times)
    for line in describe_power(experiment, planned, found):
        console.print(line, soft_wrap=True)
    if counts:
        plan.print_schedules(runs, counts, command.price, console)
    if command.save_step_times:
        _save_step_times(command.save_step_times, runs, device)
    return _name_problems(problems)


def run_grid(experiment: Experiment, command: Run) -> int:
    """Alone, as one of the processes that a launcher started, or with a group of processes for each run."""
    seeds, place = _seeds(experiment, command), _place(command)
    _check_engine(command)
    check_place(place, command.devices, command.nodes, os.environ)

    from benchmark import parallel

    if place and place.rank:
        return parallel.follow(place, command.devices, command.nodes, command.device)
    with parallel.open_group(place, command.devices, command.nodes, command.device) as (device, execute):
        return _run_all(experiment, command, seeds, device, execute)


def _place(command: Command | None) -> Place | None:
    """Among the processes that a launcher started, for a run that asks for several."""
    is_shared = isinstance(command, Run) and command.devices * command.nodes > 1
    return find_place(os.environ) if is_shared else None


def follows(command: Command | None) -> bool:
    """Whether another process prints what this one has to say."""
    with contextlib.suppress(UserError):
        return bool((place := _place(command)) and place.rank)
    return False


def _run_all(experiment: Experiment, command: Run, seeds: list[int], device: str, execute: "Execute") -> int:
    """``execute`` does a run."""
    from rich.console import Console

    from benchmark import grid, plan
    from benchmark.parallel import LostGroup
    from benchmark.progress import Progress
    from benchmark.run import InterruptedRun
    from benchmark.tracking import Tracker, TrackingOptions

    tracking = TrackingOptions(command.wandb, command.wandb_project, command.wandb_entity)
    grid.check_writable(command.results_dir)
    sharing = {"devices": command.devices * command.nodes, "sync_batchnorm": command.sync_batchnorm}
    cells, problems = _select(experiment, command, device, **sharing)
    refuse_unlike(_left(command.results_dir, cells, seeds), _records(experiment, command.results_dir))
    data_dir = command.data_dir or DATA
    grid.prepare(cells, data_dir)
    console = Console()
    with console.status(MEASURING):
        runs = plan.make_plan(experiment, cells, seeds, command.results_dir, device)
    _confirm(sum(r.seconds_left for r in runs), command.yes)
    tracker = Tracker(tracking, command.results_dir)
    try:
        if command.engine == "ray":
            not_done = _run_on_ray(command, runs, data_dir, device, console, tracker)
        else:
            with Progress(len(runs), console) as progress:
                not_done = grid.run_all(runs, data_dir, device, progress, tracker, execute)
    except InterruptedRun:
        raise KeyboardInterrupt from None
    except LostGroup as error:
        return _name_problems([*problems, str(error)])
    code = _name_problems([*problems, *not_done])
    profile = command.profile or experiment.default_profile
    shown = [planned for planned in runs if experiment.tabulates(planned.folder.cell.row)]
    if profile != "smoke" and any(planned.folder.status() in FINISHED for planned in shown):
        report(experiment, command.results_dir)
        tracker.table(experiment.name, command.results_dir)
    return code


def _left(results_dir: Path, cells: Sequence["Chosen"], seeds: Sequence[int]) -> list[Record]:
    """The records of the runs that are not finished, as they will be."""
    folders = [RunFolder(results_dir, cell, seed) for seed in seeds for cell, _ in cells]
    left = [folder for folder in folders if folder.status() not in FINISHED]
    return [Record(folder.path, folder.cell, folder.seed, {"status": "done"}, ()) for folder in left]


def _records(experiment: Experiment, results_dir: Path) -> list[Record]:
    """Those of the experiment; none if one cannot be read, which is left to the tables to tell."""
    try:
        return read_records(results_dir, experiment.name)
    except UserError:
        return []


def _seeds(experiment: Experiment, command: Plan | Run) -> list[int]:
    return parse_seeds(command.seeds) or list(experiment.seeds)


def _select(
    experiment: Experiment, command: Plan | Run, device: str, **sharing: Any
) -> tuple[list["Chosen"], list[str]]:
    """The cells that are asked for, each with its data, and a line for each that cannot be trained."""
    from benchmark import grid

    data_dir = command.data_dir or DATA
    if command.data_dir and not data_dir.exists():
        raise UserError(f"data directory {data_dir} does not exist; create it to download into it, or leave it out")
    cells = grid.select_cells(
        experiment,
        data_dir,
        device,
        profile=command.profile,
        only=command.only,
        datasets=command.dataset,
        networks=command.network,
        validation=command.validation,
        precision=command.precision,
        compile=command.compile,
        image_size=command.image_size,
        resized=command.cache,
        subset=command.subset,
        note=lambda line: print(line, file=sys.stderr),
        **sharing,
    )
    return grid.check_networks(cells)


def _device_counts(command: Plan) -> list[int]:
    counts = parse_counts(command.devices, "--devices 1 8 64")
    if command.price is not None and not counts:
        raise UserError("--price needs --devices N ...: it is that of a device-hour")
    if command.price is not None and not 0 <= command.price < math.inf:
        raise UserError(f"--price is {command.price}; it must be 0 or more")
    if command.step_times and command.save_step_times:
        raise UserError("--step-times measures nothing that --save-step-times could save; leave out one of them")
    if (command.step_times or command.save_step_times) and command.compile != "auto":
        raise UserError("a table of step times does not say how they were compiled; leave out --compile")
    return counts


def _step_times(command: Plan, device: str) -> "StepTimes | None":
    """Those to plan by, if any are given; or see, before measuring, that what is measured can be saved."""
    from benchmark import machine
    from benchmark.step_times import check_step_times, read_step_times

    if command.save_step_times:
        check_step_times(command.save_step_times, machine.describe_device(device))
    return read_step_times(command.step_times, command.precision) if command.step_times else None


def _save_step_times(path: Path, runs: "Sequence[PlannedRun]", device: str) -> None:
    from benchmark import machine, plan
    from benchmark.step_times import add_step_times

    steps = plan.measured_steps(runs)
    if not steps:
        raise UserError("no step times to save: no run is left, or none could be measured")
    add_step_times(path, steps, machine.origin(device))
    print(f"added {len(steps)} step times to {path}")


def _check_engine(command: Run) -> None:
    """Raises:
    UserError: no such engine, options of another one, or Ray is not there.
    """
    if command.engine not in ENGINES:
        raise UserError(f"unknown --engine {command.engine!r}; {closest(command.engine, ENGINES)}")
    options = RayOptions(command.address, command.runs_per_gpu, command.cpus_per_run)
    if command.engine != "ray":
        if options != RayOptions():
            raise UserError("--address, --runs-per-gpu and --cpus-per-run need --engine ray")
        return
    if command.devices != 1 or command.nodes != 1:
        raise UserError("--engine ray gives each run one device; leave out --devices and --nodes")
    check_ray(options)


def _run_on_ray(
    command: Run, runs: list["PlannedRun"], data_dir: Path, device: str, console: "Console", tracker: "Tracker"
) -> list[str]:
    from benchmark import ray_engine
    from benchmark.board import Board
    from benchmark.ray_cluster import connect

    options = RayOptions(command.address, command.runs_per_gpu, command.cpus_per_run)
    with connect(options, device) as cluster, Board(len(runs), console) as board:
        board.say(f"{cluster.slots()} runs at once on {cluster.where}")
        if _take_turns(options, device):
            board.say("runs that share a GPU are time-sliced; NVIDIA's MPS lets them run at once (docs/grids.md)")
        return ray_engine.run_all(runs, data_dir, device, board, tracker, cluster)


def _take_turns(options: RayOptions, device: str) -> bool:
    """Whether runs on a GPU of this machine wait for each other; of a cluster's it is not known."""
    from benchmark import machine

    is_shared = device == "cuda" and options.runs_per_gpu > 1 and options.place == LOCAL
    return is_shared and not machine.has_mps()


def _name_problems(problems: list[str]) -> int:
    """The exit code: 1 if there are any."""
    for problem in problems:
        print(f"not done: {problem}", file=sys.stderr)
    return 1 if problems else 0


def _confirm(seconds: float, yes: bool) -> None:
    from benchmark.duration import format_duration

    if seconds < DAY:
        return
    estimate = f"this will take about {format_duration(seconds)} on this machine"
    if yes:
        print(estimate)
    elif not sys.stdin.isatty():
        raise UserError(f"{estimate}; add --yes to go on, or take PROFILE=short (--profile short)")
    elif not _agrees(f"{estimate} (PROFILE=short is faster). Go on? [y/N] "):
        raise UserError("not started; PROFILE=short (--profile short) is faster")


def _agrees(question: str) -> bool:
    """Whether the answer is yes; the end of the input (Ctrl-D) is a no."""
    try:
        return input(question).strip().lower() in ("y", "yes")
    except EOFError:
        print()
        return False
