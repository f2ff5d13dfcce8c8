"""The command line, ``python -m benchmark COMMAND ...`` (also installed as ``oin``).

Parsing imports no torch, so that help and mistakes answer at once.
"""

import contextlib
import io
import math
import os
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import tyro

from benchmark.arguments import parse_counts, parse_seeds
from benchmark.commands import (
    Command,
    Compare,
    Completion,
    List,
    Plan,
    Report,
    Run,
    Show,
    Speed,
    Tables,
    Theory,
    VerifyPaper,
)
from benchmark.errors import UserError, closest
from benchmark.examples import examples_of
from benchmark.experiments import EXPERIMENTS, get_experiment
from benchmark.launchers import Place, check_place, find_place
from benchmark.ray_cluster import RayOptions
from benchmark.ray_cluster import check as check_ray
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
DRAWN_LAYERS = 8
PAPER = Path(__file__).parents[1] / "results" / "paper"


def main() -> None:
    """Parse, act, and exit: 0 all done, 1 some run failed, 2 a user's mistake, 130 interrupted."""
    command = None
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        command = _parse(sys.argv[1:])
        sys.exit(_act(command))
    except UserError as error:
        if not _follows(command):
            print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted" + ("; the same command continues" if isinstance(command, Run) else ""), file=sys.stderr)
        sys.exit(130)


def _parse(arguments: list[str]) -> Command:
    """tyro's parser, with examples below a command's help and its boxed error message folded into one line."""
    message = io.StringIO()
    try:
        with contextlib.redirect_stderr(message):
            return tyro.cli(
                Command,
                prog="python -m benchmark",
                description="Network structures from optimization algorithms: run the tables, one command each.",
                args=arguments,
                config=(tyro.conf.FlagCreatePairsOff,),
            )
    except SystemExit as stop:
        if stop.code in (0, None):
            print(examples_of(arguments), end="")
            raise
        lines = [re.sub(r"[─-╿]", "", line).strip() for line in message.getvalue().splitlines()]
        text = "; ".join(line.rstrip(":") for line in lines[1:] if line)
        raise UserError(text or "cannot parse the command line; see python -m benchmark --help") from None


def _act(command: Command) -> int:
    if isinstance(command, Report):
        return _write_page(command)
    if isinstance(command, Speed):
        return _measure_speed(command)
    if isinstance(command, Theory):
        return _measure_theory(command)
    if isinstance(command, VerifyPaper):
        return _verify_paper(command)
    if isinstance(command, List | Show):
        return _show(command)
    if isinstance(command, Compare):
        return _compare(command)
    if isinstance(command, Completion):
        return _print_completion(command)
    experiment = get_experiment(command.experiment)
    if isinstance(command, Tables):
        return _report(experiment, command.results_dir, command.sort, command.descending)
    return _plan(experiment, command) if isinstance(command, Plan) else _run(experiment, command)


def _plan(experiment: Experiment, command: Plan) -> int:
    seeds, counts = _seeds(experiment, command), _device_counts(command)

    from rich.console import Console

    from benchmark import machine, plan

    console, device = Console(), machine.choose_device(command.device)
    step_times = _step_times(command, device)
    cells, problems = _select(experiment, command, device)
    with console.status(MEASURING):
        runs = plan.make_plan(experiment, cells, seeds, command.results_dir, device, step_times)
    plan.print_plan(runs, console, step_times)
    if counts:
        plan.print_schedules(runs, counts, command.price, console)
    if command.save_step_times:
        _save_step_times(command.save_step_times, runs, device)
    return _name_problems(problems)


def _run(experiment: Experiment, command: Run) -> int:
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


def _follows(command: Command | None) -> bool:
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
    if profile != "smoke" and len(not_done) < len(runs):
        _report(experiment, command.results_dir)
        tracker.table(experiment.name, command.results_dir)
    return code


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
        image_size=command.image_size,
        resized=command.cache,
        subset=command.subset,
        **sharing,
    )
    return grid.check_networks(cells)


def _device_counts(command: Plan) -> list[int]:
    counts = parse_counts(command.devices, "--devices 1 8 64")
    if command.price is not None and not counts:
        raise UserError("--price needs --devices N ...: it is of an hour of one of them")
    if command.price is not None and not 0 <= command.price < math.inf:
        raise UserError(f"--price is {command.price}; it must be 0 or more")
    if command.step_times and command.save_step_times:
        raise UserError("--step-times measures nothing that --save-step-times could save; leave out one of them")
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
    from benchmark.commits import commit_name
    from benchmark.step_times import add_step_times

    steps = plan.measured_steps(runs)
    if not steps:
        raise UserError("no step was measured, since no run is left or none could be; nothing was saved")
    origin = {
        "device": machine.describe_device(device),
        "torch": machine.versions()["torch"],
        "commit": commit_name(machine.git_state()),
    }
    add_step_times(path, steps, origin)
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
        return ray_engine.run_all(runs, data_dir, device, board, tracker, cluster)


def _name_problems(problems: list[str]) -> int:
    """The exit code: 1 if there are any."""
    for problem in problems:
        print(f"not done: {problem}", file=sys.stderr)
    return 1 if problems else 0


def _measure_speed(command: Speed) -> int:
    counts = parse_counts(command.pack, "--pack 1 2 4 8")
    if command.feed is not None and not 0 < command.feed < float("inf"):
        raise UserError(f"--feed is {command.feed}; it must be a number of images per second above 0")

    from benchmark import grid, machine
    from benchmark.report.speed import write_speed
    from benchmark.report.speed_input import write_input
    from benchmark.speed import suite
    from benchmark.speed.input import measure_input

    device = machine.choose_device(command.device)
    settings = suite.Settings(
        device,
        machine.choose_precision(command.precision, device),
        command.compile,
        command.batch_size,
        command.blocks,
        command.steps,
    )
    grid.check_writable(command.results_dir)
    compared = [name for structures in suite.STRUCTURES.values() for name in structures]
    imagenet = suite.TORCHVISION if command.only else ()
    names = suite.select([*suite.NETWORKS, *compared, *imagenet], command.only)
    environment = suite.environment(settings)
    looped, packed, paired = (
        [name for name in names if name in table] for table in (suite.NETWORKS, suite.PACKED, suite.TORCHVISION)
    )
    measures = {
        "loops": lambda: suite.measure_loops(looped, settings, print),
        "structures": lambda: suite.measure_structures(names, settings, print),
        "packed": lambda: suite.measure_packing(packed, counts, settings, print),
        "torchvision": lambda: suite.measure_torchvision(paired, settings, print),
    }
    measured: dict[str, list[suite.Row]] = {}
    paths: list[Path] = []
    for table, measure in measures.items():
        if rows := measure():
            measured[table] = rows
            paths = write_speed(command.results_dir, measured, environment)
    if not command.only or command.data_dir or command.feed:
        photographs = measure_input(command.data_dir, command.blocks, print)
        paths += write_input(command.results_dir, photographs, command.feed, suite.input_environment())
    print("wrote " + ", ".join(map(str, paths)))
    return 0


def _measure_theory(command: Theory) -> int:
    if command.layers < 2:
        raise UserError(f"--layers is {command.layers}; it must be at least 2")

    from benchmark import grid
    from benchmark.report.theory import write_convergence, write_step_tables
    from benchmark.theory import convergence

    grid.check_writable(command.results_dir)
    titles = {name: method.title for name, method in convergence.METHODS.items()}
    paths = write_convergence(command.results_dir, convergence.measure(layers=command.layers), titles)
    paths += write_step_tables(command.results_dir, convergence.step_tables(DRAWN_LAYERS))
    print("wrote " + ", ".join(map(str, paths)))
    return 0


def _verify_paper(command: VerifyPaper) -> int:
    """Exit 0 if every number was found, else 1."""
    from benchmark import paper

    tables = sorted((command.results_dir / "paper").glob("*.csv"))
    if not tables:
        raise UserError(f"{command.results_dir / 'paper'} holds no tables of published numbers")
    pages = paper.read_pages(command.pdf)
    findings = {path: paper.verify(paper.read_numbers(path), pages) for path in tables}
    for path, found in findings.items():
        print(path)
        for f in found:
            where = f"page {f.page}: {' '.join(f.row)}" if f.page else "no such row"
            print(f"  {f.outcome:9}  {f.model}, {f.dataset}, {f.metric}: {f.value}  ({where})")
        if command.write:
            source = command.pdf.name if command.pdf else paper.URL.rpartition("/")[2]
            print(f"  {paper.write_provenance(path, found, source)} marked as verified")
    return int(any(f.outcome != paper.VERIFIED for found in findings.values() for f in found))


def _show(command: List | Show) -> int:
    from rich.console import Console

    from benchmark import show

    console = Console()
    if isinstance(command, List):
        show.print_experiments(EXPERIMENTS.values(), console)
        show.print_networks(console)
    else:
        show.print_network(command.network, command.size, command.classes, console)
    return 0


def _compare(command: Compare) -> int:
    experiments = [get_experiment(command.experiment)] if command.experiment else list(EXPERIMENTS.values())

    from benchmark.ledger import write_atomically
    from benchmark.report.compare import compare_sections, read_results
    from benchmark.report.compare_tables import comparison_frame, comparison_text
    from benchmark.revisions import open_results

    with open_results(command.a) as a, open_results(command.b) as b:
        ours, theirs = read_results(experiments, a.results), read_results(experiments, b.results)
    common = [experiment for experiment in experiments if experiment.name in ours.keys() & theirs.keys()]
    if not common:
        held = "; ".join(
            f"{source.name} has {', '.join(found) or 'none'}" for source, found in ((a, ours), (b, theirs))
        )
        raise UserError(f"no finished runs of {command.experiment or 'one experiment'} in both: {held}")
    compared = []
    for experiment in common:
        sections = compare_sections(ours[experiment.name], theirs[experiment.name])
        print(comparison_text(f"{experiment.name}: A = {a.name}, B = {b.name}", sections))
        compared += sections
    if command.csv:
        write_atomically(command.csv, comparison_frame(compared).to_csv(index=False, lineterminator="\n"))
        print(f"wrote {command.csv}")
    return 0


def _print_completion(command: Completion) -> int:
    from benchmark.completion import completion_script
    from lightning_modules.networks import list_networks

    print(completion_script(command.shell, get_args(Command), EXPERIMENTS.values(), list_networks()), end="")
    return 0


def _confirm(seconds: float, yes: bool) -> None:
    from benchmark.duration import format_duration

    if seconds < DAY:
        return
    estimate = f"this will take about {format_duration(seconds)} on this machine"
    if yes:
        print(estimate)
    elif not sys.stdin.isatty():
        raise UserError(f"{estimate}; add --yes to go on, or take PROFILE=short (--profile short)")
    elif input(f"{estimate} (PROFILE=short is faster). Go on? [y/N] ").strip().lower() not in ("y", "yes"):
        raise UserError("not started; PROFILE=short (--profile short) is faster")


def _report(experiment: Experiment, results: Path, sort: str | None = None, descending: bool = False) -> int:
    text = _sorted_text(experiment, results, sort, descending)
    paths = _write_report(experiment, results)
    texts = [text] if text else [path.read_text(encoding="utf-8") for path in paths if path.suffix == ".md"]
    print("\n".join(texts))
    print("wrote " + ", ".join(map(str, paths)))
    return 0


def _sorted_text(experiment: Experiment, results: Path, sort: str | None, descending: bool) -> str | None:
    """The tables in another order for the terminal; None if none was asked for."""
    if sort is None:
        if descending:
            raise UserError("--descending needs --sort COLUMN")
        return None
    if experiment.report != "comparison":
        raise UserError(f"--sort orders tables with one line a row; the report on {experiment.name} has none")

    from benchmark.report.tables import console_text

    return console_text(experiment, results, PAPER, sort, descending)


def _write_page(command: Report) -> int:
    from benchmark.report.page import read_groups, write_page

    results = command.results_dir
    groups = read_groups(EXPERIMENTS.values(), results)
    written = {g.experiment.name: _write_report(g.experiment, results) for g in groups if g.is_tabulated}
    page = write_page(results, groups, written, PAPER)
    print("wrote " + ", ".join(map(str, [*(path for paths in written.values() for path in paths), page])))
    return 0


def _write_report(experiment: Experiment, results: Path) -> list[Path]:
    """Make an experiment's tables and plots from its records."""
    write = {"comparison": _write_comparison, "hypothesis": _write_hypothesis}[experiment.report]
    return write(experiment, results)


def _write_hypothesis(experiment: Experiment, results: Path) -> list[Path]:
    from benchmark.experiments.hypothesis import CONDITION_NUMBER
    from benchmark.report.hypothesis import Speed
    from benchmark.report.hypothesis_plots import write_hypothesis_plots
    from benchmark.report.hypothesis_tables import write_hypothesis_tables
    from benchmark.theory import convergence

    titles = {name: method.title for name, method in convergence.METHODS.items()}
    rows = convergence.measure(["quadratic"], [CONDITION_NUMBER])
    speeds = {row["method"]: Speed(row["measured factor"], row["distances"]) for row in rows}
    paths = write_hypothesis_tables(experiment, results, speeds, titles)
    return paths + write_hypothesis_plots(experiment, results, speeds, titles)


def _write_comparison(experiment: Experiment, results: Path) -> list[Path]:
    from benchmark.report.coefficient_plots import write_coefficients
    from benchmark.report.cost_plots import write_costs
    from benchmark.report.difference_plots import write_differences
    from benchmark.report.gradient_plots import write_gradients
    from benchmark.report.plots import write_learning_curves
    from benchmark.report.tables import write_tables

    paths = write_tables(experiment, results, PAPER)
    for write in (write_learning_curves, write_differences, write_costs, write_coefficients, write_gradients):
        paths += write(experiment, results)
    return paths


if __name__ == "__main__":
    main()
