"""Many runs: what is asked for, which cells, and one after another in this process."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmark import run
from benchmark.arguments import check_globs, parse_network
from benchmark.complexity import complexity
from benchmark.data import Source, create_datamodule, find_source, identify
from benchmark.errors import UserError, closest, told_as
from benchmark.ledger import FINISHED, RunFolder
from benchmark.parallel import Execute, LostGroup
from benchmark.plan import PlannedRun
from benchmark.progress import Progress
from benchmark.specs import Cell, Experiment, NetworkSpec, RecipeSpec
from benchmark.tracking import Tracker
from datamodules.batches import check_parts
from datamodules.errors import DataError
from lightning_modules.fixed_shape import CAPTURED, NO_MASKS_TWICE
from lightning_modules.networks import list_networks, network_definition


def select_cells(
    experiment: Experiment,
    data_dir: Path,
    device: str,
    profile: str | None = None,
    only: Sequence[str] = (),
    datasets: Sequence[str] = (),
    networks: Sequence[str] = (),
    validation: int = 0,
    precision: str = "auto",
    compile: str = "auto",
    image_size: int = 0,
    resized: bool = False,
    subset: bool = False,
    devices: int = 1,
    sync_batchnorm: bool = False,
    note: Callable[[str], object] = lambda line: None,
) -> list[tuple[Cell, Source]]:
    """The resolved cells that a command asks for, each with its data; ``devices`` share every batch.

    Cells of data sets that ``data_dir`` does not hold are left out with a ``note``, unless they were named.

    Raises:
        UserError: a profile, data set, row, precision or compilation is unknown or not for this device, nothing
            matches, a batch is larger than the training images or cannot be shared, or fewer images are evaluated
            than there are devices.
    """
    profile = profile or experiment.default_profile
    if profile not in experiment.profiles:
        raise UserError(f"{experiment.name} has no profile {profile!r}; {closest(profile, experiment.profiles)}")
    datasets, networks = list(dict.fromkeys(datasets)), list(dict.fromkeys(networks))
    for name in datasets:
        if name not in experiment.datasets:
            raise UserError(f"{experiment.name} has no data set {name!r}; {closest(name, experiment.datasets)}")
    if compile not in run.COMPILE:
        raise UserError(f"unknown --compile {compile!r}; valid: {', '.join(run.COMPILE)}")
    if compile in CAPTURED and devices > 1:
        raise UserError(f"--compile {compile} is for runs on one device; take auto, off or default with several")
    rows = [experiment.row(text) or parse_network(text) for text in networks] or None
    cells = experiment.cells(profile, datasets or None, only or (["*"] if rows else ()), rows)
    names = [name for cell in cells for name in (cell.row, cell.name)]
    where = f" on {' and '.join(datasets)}" if datasets else ""
    check_globs(only, names, f"row of {experiment.name}{where}", [row.key for row in rows or experiment.rows])
    if experiment.profiles[profile].image_size:
        cells = [_with_photographs(cell, image_size, resized) for cell in cells]
    elif image_size or resized or subset:
        raise UserError(f"--image-size, --cache and --subset are for photographs; {experiment.name} has none")
    sources = {
        cell.data.name: find_source(cell.data.name, data_dir, cell.recipe.image_size, resized, subset)
        for cell in cells
    }
    found = [(cell, source) for cell in cells if (source := sources[cell.data.name])]
    missing = [name for name, source in sources.items() if source is None]
    if missing and (datasets or not found):
        raise UserError(f"{data_dir} holds images of another data set than {', '.join(missing)}")
    if missing:
        note(f"{', '.join(missing)} left out: {data_dir} holds images of another data set")
    for _, source in found:
        if not 0 <= validation < source.num_train:
            raise UserError(f"cannot hold out {validation} of {source.num_train} training images")
    for cell, source in found:
        images, batch_size = source.num_train - validation, cell.recipe.batch_size
        if batch_size > images:
            raise UserError(f"batch size {batch_size} is larger than the {images} training images")
        evaluated = min(validation or source.num_test, source.num_test)
        _check_sharing(cell, images, evaluated, device, devices, sync_batchnorm)
    return [
        (
            replace(
                cell,
                network=replace(
                    cell.network, definition=network_definition(cell.network.name, cell.network.options)
                ),
                data=replace(identify(cell.data, source), validation=validation),
                recipe=run.resolve_recipe(
                    replace(
                        _as_asked(cell.recipe, precision, run.COMPILE[compile]),
                        devices=devices,
                        sync_batchnorm=sync_batchnorm,
                    ),
                    device,
                    cell.network,
                ),
            ),
            source,
        )
        for cell, source in found
    ]


def _with_photographs(cell: Cell, image_size: int, resized: bool) -> Cell:
    """The cell with the size of its images and whether they are resized beforehand, as asked for."""
    recipe = replace(cell.recipe, image_size=image_size or cell.recipe.image_size)
    return replace(cell, data=replace(cell.data, resized=resized), recipe=recipe)


def _check_sharing(
    cell: Cell, images: int, evaluated: int, device: str, devices: int, sync_batchnorm: bool
) -> None:
    """Raises:
    UserError: ``devices`` cannot share the cell's batches of so many training images, or so many evaluated ones.
    """
    if sync_batchnorm and (device != "cuda" or devices == 1):
        raise UserError("--sync-batchnorm needs several GPUs; leave it out on one device or on CPUs")
    if devices == 1:
        return
    if cell.recipe.loop == "reference":
        raise UserError(f"{cell.name} is trained by the usual loop, which has one device; leave it out")
    try:
        check_parts(images, cell.recipe.batch_size, devices)
    except DataError as error:
        raise UserError(f"{cell.name}: {error}; take another number of --devices") from error
    if cell.recipe.image_size and evaluated < devices:
        raise UserError(f"{cell.name} is evaluated on {evaluated} images, fewer than {devices} devices; take fewer")


def _as_asked(recipe: RecipeSpec, precision: str, compile: str | bool) -> RecipeSpec:
    """The recipe with the precision and compilation asked for, unless its row fixes them."""
    asked = {"precision": precision, "compile": compile}
    return replace(recipe, **{name: value for name, value in asked.items() if getattr(recipe, name) == "auto"})


def check_networks(cells: Sequence[tuple[Cell, Source]]) -> tuple[list[tuple[Cell, Source]], list[str]]:
    """The cells whose network can be built, and a line for each of the others, before anything is trained.

    Raises:
        UserError: none can be built.
    """
    valid, problems = [], {}
    for cell, source in cells:
        try:
            check_network(cell.network, source)
            _check_capture(cell)
        except UserError as error:
            problems[f"{cell.name}: {error}"] = error
        else:
            valid.append((cell, source))
    if not valid:
        raise next(iter(problems.values()))
    return valid, list(problems)


def check_network(network: NetworkSpec, source: Source) -> None:
    """Build the network without memory.

    Raises:
        UserError: unknown network or option.
    """
    if network.name not in list_networks():
        raise UserError(f"unknown network {network.name!r}; {closest(network.name, list_networks())}")
    with told_as(network.name):
        complexity(network, source.num_classes, source.image_shape)


def _check_capture(cell: Cell) -> None:
    """Raises:
    UserError: the network cannot be captured, as is asked for.
    """
    if cell.recipe.compile in CAPTURED and cell.network.draws_masks_twice:
        raise UserError(f"{cell.network.name}: {NO_MASKS_TWICE}")


def prepare(cells: Sequence[tuple[Cell, Source]], data_dir: Path) -> None:
    """Download or decode what the cells need, before anything is measured or trained.

    Raises:
        UserError: data cannot be had.
    """
    different = {cell.data.name: cell for cell, _ in cells}
    for cell in different.values():
        create_datamodule(cell.data, data_dir, cell.recipe, seed=0)


def check_writable(results: Path) -> None:
    """Raises:
    UserError: records cannot be written there.
    """
    try:
        results.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=results):
            pass
    except OSError as error:
        raise UserError(f"results directory {results} cannot be written: {error.strerror or error}") from error


def run_all(
    runs: Sequence[PlannedRun],
    data_dir: Path,
    device: str,
    progress: Progress,
    tracker: Tracker,
    execute: Execute = run.execute,
) -> list[str]:
    """Do what is left, one run after another; a run that fails does not stop the others.

    Returns:
        One line for each run that is not done: its label and why.

    Raises:
        UserError: the data or the results directory cannot be used.
        run.InterruptedRun: a signal came.
        LostGroup: a launched group of processes broke in a run.
    """
    problems = []
    seconds = [planned.seconds_left for planned in runs]
    for number, planned in enumerate(runs, 1):
        left = sum(seconds[number:])
        with planned.folder.lock() as ours:
            if not ours:
                problems.append(f"{planned.label}: another process is running it")
                progress.skip(number, planned.label, "another process is running it")
                continue
            status = planned.folder.status()
            if status in FINISHED:
                progress.skip(number, planned.label, f"{status} already")
                if status == "diverged":
                    problems.append(f"{planned.label}: diverged")
                continue
            progress.start(number, planned.label, planned.cell.recipe.epochs, left)
            result = execute_tracked(
                planned.folder, planned.label, data_dir, device, tracker, progress.epoch, execute
            )
            progress.end(result)
            if result["status"] != "done":
                problems.append(f"{planned.label}: {result['status']} ({result['reason']})")
    return problems


def execute_tracked(
    folder: RunFolder,
    label: str,
    data_dir: Path,
    device: str,
    tracker: Tracker,
    on_epoch: run.OnEpoch,
    execute: Execute = run.execute,
) -> dict[str, Any]:
    """The record, shown and sent while it grows; the caller holds the run's lock."""

    def show_and_send(row: Mapping[str, float]) -> None:
        on_epoch(row)
        tracker.epoch()

    tracker.start(folder, label)
    try:
        result = execute(folder, data_dir, device, show_and_send)
    except (run.InterruptedRun, LostGroup, UserError) as error:
        tracker.end({"status": "interrupted" if isinstance(error, run.InterruptedRun) else "failed"})
        raise
    tracker.end(result)
    return result
