"""The command line, ``python -m benchmark COMMAND ...`` (also installed as ``oin``).

Parsing imports no torch, so that help and mistakes answer at once.
"""

import contextlib
import io
import os
import re
import signal
import sys
import unicodedata
from pathlib import Path
from typing import get_args

import tyro

from benchmark.arguments import parse_counts
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
from benchmark.errors import UserError
from benchmark.examples import examples_of
from benchmark.experiments import EXPERIMENTS, get_experiment
from benchmark.reports import PAPER, report, report_all
from benchmark.start import follows, plan_grid, run_grid

DRAWN_LAYERS = 8
UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")
"""Unicode's categories of control characters, of what stands for bytes that are no text, and of line breaks."""


def main() -> None:
    """Parse, act, and exit: 0 all done, 1 a run failed or nobody reads on, 2 a user's mistake, 130 interrupted."""
    command = None
    _mend_streams()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        command = _parse(sys.argv[1:])
        status = _act(command)
        sys.stdout.flush()
        sys.exit(status)
    except BrokenPipeError:
        _end_output()
        sys.exit(1)
    except UserError as error:
        if not follows(command):
            print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:  # a path without permission or too long, a full disk below the output
        if not follows(command):
            what = f"{error.filename}: " if error.filename else ""
            print(f"error: {what}{error.strerror or error}", file=sys.stderr)
        _end_output()
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted" + ("; the same command continues" if isinstance(command, Run) else ""), file=sys.stderr)
        sys.exit(130)


def _mend_streams() -> None:
    """A sign that a terminal lacks becomes "?", and what is printed to a closed stream goes nowhere."""
    sys.stdin = sys.stdin or open(os.devnull, encoding="utf-8")  # noqa: SIM115
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name) or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
        setattr(sys, name, stream)


def _parse(arguments: list[str]) -> Command:
    """tyro's parser, with examples below a command's help and its boxed error message folded into one line."""
    if any(word == "" or (word.startswith("--") and word.endswith("=")) for word in arguments):
        raise UserError("an argument is empty; perhaps a shell variable is not set")
    for word in arguments:
        if any(unicodedata.category(sign) in UNPRINTABLE for sign in word):
            raise UserError(f"{word!r} has characters that tables and plots cannot show; rename it")
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
            print(examples_of(arguments), end="", flush=True)
            raise
        lines = [re.sub(r"[─-╿]", "", line).strip() for line in message.getvalue().splitlines()]
        text = "; ".join(line.rstrip(":") for line in lines[1:] if line)
        raise UserError(text or "cannot parse the command line; see python -m benchmark --help") from None


def _end_output() -> None:
    """What cannot be written any more goes nowhere: a reader such as ``head`` closed the pipe, a disk is full."""
    try:
        sys.stdout.flush()
    except OSError:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _act(command: Command) -> int:
    if isinstance(command, Report):
        return report_all(command.results_dir)
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
        return report(experiment, command.results_dir, command.sort, command.descending)
    return plan_grid(experiment, command) if isinstance(command, Plan) else run_grid(experiment, command)


def _measure_speed(command: Speed) -> int:
    counts = parse_counts(command.pack, "--pack 1 2 4 8")
    if command.feed is not None and not 0 < command.feed < float("inf"):
        raise UserError(f"--feed is {command.feed}; it must be a number of images per second above 0")

    from benchmark import grid, machine
    from benchmark.report.speed import check_tables, write_speed
    from benchmark.report.speed_input import check_input, write_input
    from benchmark.speed import suite
    from benchmark.speed.input import check_photographs, measure_input
    from benchmark.speed.measure import whole_groups

    device = machine.choose_device(command.device)
    settings = suite.Settings(
        device,
        machine.choose_precision(command.precision, device),
        command.compile,
        command.batch_size,
        command.blocks,
        whole_groups(device, command.steps),
    )
    grid.check_writable(command.results_dir)
    compared = [name for structures in suite.STRUCTURES.values() for name in structures]
    imagenet = suite.TORCHVISION if command.only else ()
    names = suite.select([*suite.NETWORKS, *compared, *imagenet], command.only)
    environment = suite.environment(settings)
    looped, packed, paired = (
        [name for name in names if name in table] for table in (suite.NETWORKS, suite.PACKED, suite.TORCHVISION)
    )
    if counts and not packed:
        raise UserError(f"--pack is for {' and '.join(suite.PACKED)}; --only leaves them out")
    measures = {
        "loops": lambda: suite.measure_loops(looped, settings, print),
        "structures": lambda: suite.measure_structures(names, settings, print),
        "packed": lambda: suite.measure_packing(packed, counts, settings, print),
        "torchvision": lambda: suite.measure_torchvision(paired, settings, print),
    }
    check_tables(command.results_dir, environment["device"])
    reads_input = not command.only or command.data_dir or command.feed
    if reads_input:
        of_input = machine.environment("cpu")  # the input path runs on no GPU
        check_input(command.results_dir, of_input["device"])
        check_photographs(command.data_dir)
    measured: dict[str, list[suite.Row]] = {}
    paths: list[Path] = []
    for table, measure in measures.items():
        for row in measure():
            measured.setdefault(table, []).append(row)
            paths = write_speed(command.results_dir, measured, environment)
    if reads_input:
        photographs = measure_input(command.data_dir, command.blocks, print)
        paths += write_input(command.results_dir, photographs, command.feed, of_input)
    print("wrote " + ", ".join(map(str, paths)))
    return 0


def _measure_theory(command: Theory) -> int:
    if command.layers < 2:
        raise UserError(f"--layers is {command.layers}; it must be at least 2")

    from benchmark import grid, machine
    from benchmark.report.theory import write_convergence, write_step_tables
    from benchmark.theory import convergence

    grid.check_writable(command.results_dir)
    titles = {name: method.title for name, method in convergence.METHODS.items()}
    rows = convergence.measure(layers=command.layers)
    paths = write_convergence(command.results_dir, rows, titles, machine.origin("cpu"))
    paths += write_step_tables(command.results_dir, convergence.step_tables(DRAWN_LAYERS))
    print("wrote " + ", ".join(map(str, paths)))
    return 0


def _verify_paper(command: VerifyPaper) -> int:
    """Exit 0 if every number was found, else 1."""
    from benchmark import paper

    tables = sorted(PAPER.glob("*.csv"))
    if not tables:
        raise UserError(f"{PAPER} holds no tables of published numbers")
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

    from benchmark.report.compare import compare_sections, read_results
    from benchmark.report.compare_tables import comparison_text, write_comparison
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
        write_comparison(compared, command.csv)
        print(f"wrote {command.csv}")
    return 0


def _print_completion(command: Completion) -> int:
    from benchmark.completion import completion_script
    from lightning_modules.networks import list_networks

    print(completion_script(command.shell, get_args(Command), EXPERIMENTS.values(), list_networks()), end="")
    return 0


if __name__ == "__main__":
    main()
