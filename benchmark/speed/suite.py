"""What ``make speed`` measures: each network's loops side by side, and a structure beside its baseline."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch

from benchmark import machine, run
from benchmark.arguments import check_globs, parse_network
from benchmark.complexity import complexity
from benchmark.errors import UserError, closest
from benchmark.specs import NetworkSpec, RecipeSpec, matches
from benchmark.speed.loops import (
    IMAGE_SIZE,
    NUM_CLASSES,
    NUM_IMAGES,
    TORCHVISION,
    Task,
    bare_loop,
    torchvision_loop,
)
from benchmark.speed.measure import PHASES, Loop, peak_memory, steps_within
from benchmark.speed.packing import time_processes, time_stacked
from benchmark.speed.processes import (
    Times,
    in_its_own_process,
    memory_of_loop,
    time_network,
    time_side_by_side,
)
from lightning_modules.networks import list_networks, network_definition, network_purpose

NETWORKS = (
    "cifar_resnet20",
    "cifar_resnet56",
    "cifar_hbnet56",
    "cifar_agdresnet56",
    "cifar_densenet40",
    "cifar_agdnet40",
)
STRUCTURES = {
    "cifar_resnet56": ("cifar_hbnet56", "cifar_hbnet56:coefficients=fixed", "cifar_agdresnet56"),
    "cifar_densenet40": (
        "cifar_agdnet40",
        "cifar_agdnet40:coefficients=learned",
        "cifar_agdnet40:reading=residual",
        "cifar_agdnet40:reading=residual,coefficients=learned",
        "cifar_densenet40:memory_efficient=True",
    ),
}
"""Baselines and the structures that are compared with them."""

PACKED = ("cifar_resnet56", "cifar_densenet40")
"""Networks whose runs are packed onto one device."""

IMAGES_OF_A_RUN = 300 * 50_000
"""Of the published protocol on CIFAR."""

TRAINING_PASSES = 3
"""Forward, and backward at twice its cost; a multiply-add is two operations."""

PEAK_OPERATIONS = {"H200": 989e12, "H100 80GB HBM3": 989e12, "H100 PCIe": 756e12, "A100": 312e12}
"""Dense bf16 operations per second by the vendor's data sheets, for the share of them that a model uses."""

Row = dict[str, Any]
Report = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """How to measure: ``blocks`` turns of ``steps`` steps for each loop."""

    device: str
    precision: str
    compile: str
    batch_size: int
    blocks: int
    steps: int

    def __post_init__(self) -> None:
        """Raises:
        UserError: nothing to measure, or a batch that the noise does not fill.
        """
        for name in ("batch_size", "blocks", "steps"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name.replace('_', '-')} is {getattr(self, name)}; it must be at least 1")
        if self.compile not in run.COMPILE:
            raise UserError(f"unknown --compile {self.compile!r}; valid: {', '.join(run.COMPILE)}")
        if self.batch_size > (images := NUM_IMAGES[self.device]):
            raise UserError(f"batch size {self.batch_size} is larger than the {images} images measured with")

    def task(self, name: str) -> Task:
        """Raises:
        UserError: unknown network or option, or a precision that the device lacks.
        """
        spec = check(name)
        recipe = RecipeSpec(
            epochs=1,
            batch_size=self.batch_size,
            precision=self.precision,
            compile=run.COMPILE[self.compile],
            image_size=network_purpose(spec.name).image_size if spec.name in TORCHVISION else 0,
        )
        steps = steps_within(self.device, self.blocks, self.steps)
        batches = max(NUM_IMAGES[self.device] // self.batch_size, steps + 1)
        return Task(spec, run.resolve_recipe(recipe, self.device, spec), self.device, batches * self.batch_size)


def measure_loops(names: Iterable[str], settings: Settings, report: Report) -> Iterator[Row]:
    """For each network the reference, the bare loop and our path: milliseconds, images/s, phases, memory."""
    for name in names:
        report(f"{name}: loops side by side")
        task = settings.task(name)
        with _room_for(name, settings):
            times, phases = time_network(task, settings.blocks, settings.steps)
        ours = times.median("ours")
        multiply_adds = complexity(task.network, NUM_CLASSES, (3, IMAGE_SIZE, IMAGE_SIZE))[1]
        operations = 2 * TRAINING_PASSES * multiply_adds * settings.batch_size / ours
        row = {
            "network": name,
            **_how(task),
            **{f"{loop} ms": 1000 * times.median(loop) for loop in ("reference", "bare", "ours")},
            "images/s": settings.batch_size / ours,
            **_ratios(times.ratios("reference", "ours"), "ours vs reference"),
            "ours vs bare": median(times.ratios("bare", "ours")),
            **{f"{phase} ms": 1000 * phases[phase] for phase in PHASES},
            "TFLOP/s": operations / 1e12,
            "utilisation": _utilisation(operations, task),
        }
        for loop in ("reference", "ours"):
            with _room_for(name, settings):
                peak, before = in_its_own_process(peak_memory, task, loop) or (None, None)
            row |= {f"{loop} peak bytes": peak, f"{loop} idle bytes": before}
        report(
            f"    {row['images/s']:.0f} images/s, {row['ours vs reference']:.2f} times the reference, "
            f"{row['ours vs bare']:.2f} of the bare loop"
        )
        yield row


def measure_structures(names: Iterable[str], settings: Settings, report: Report) -> Iterator[Row]:
    """For each structure among ``names`` its step and its memory over the baseline's, bare loops taking turns."""
    names = set(names)
    for baseline, structures in STRUCTURES.items():
        group = [name for name in structures if name in names]
        if not group:
            continue
        report(f"{baseline} and its structures")
        tasks = {name: settings.task(name) for name in (baseline, *group)}
        with _room_for(baseline, settings):
            times = _time({name: (bare_loop, task) for name, task in tasks.items()}, settings)
        memory = {}
        for name, task in tasks.items():
            with _room_for(name, settings):
                memory[name] = memory_of_loop(task, "bare")
        for name in group:
            row = {
                "network": name,
                "baseline": baseline,
                **_how(tasks[name]),
                "ms": 1000 * times.median(name),
                "baseline ms": 1000 * times.median(baseline),
                **_ratios(times.ratios(name, baseline), "time ratio"),
                "memory bytes": memory[name],
                "baseline memory bytes": memory[baseline],
                "memory ratio": _ratio(memory[name], memory[baseline]),
            }
            shared = f"{row['memory ratio']:.3f}" if row["memory ratio"] else "unknown times"
            report(f"    {name}: {row['time ratio']:.3f} times the step, {shared} the memory")
            yield row


def measure_torchvision(names: Iterable[str], settings: Settings, report: Report) -> Iterator[Row]:
    """For each of ImageNet's networks its step and memory beside those of torchvision's model, as bare loops."""
    for name in names:
        task = settings.task(name)
        report(f"{name} and torchvision's {TORCHVISION[name]}")
        with _room_for(name, settings):
            times = _time({"ours": (bare_loop, task), "torchvision": (torchvision_loop, task)}, settings)
        seconds = {loop: times.median(loop) for loop in ("ours", "torchvision")}
        with _room_for(name, settings):
            memory = {"ours": memory_of_loop(task, "bare"), "torchvision": memory_of_loop(task, "torchvision")}
        row = {
            "network": name,
            "torchvision": TORCHVISION[name],
            **_how(task),
            **{f"{loop} ms": 1000 * seconds[loop] for loop in seconds},
            **{f"{loop} images/s": settings.batch_size / seconds[loop] for loop in seconds},
            **_ratios(times.ratios("torchvision", "ours"), "throughput ratio"),
            **{f"{loop} memory bytes": memory[loop] for loop in memory},
            "memory ratio": _ratio(memory["ours"], memory["torchvision"]),
        }
        report(
            f"    {row['ours images/s']:.1f} and {row['torchvision images/s']:.1f} images/s, "
            f"{row['throughput ratio']:.3f} times"
        )
        yield row


def measure_packing(
    names: Iterable[str], counts: Iterable[int], settings: Settings, report: Report
) -> Iterator[Row]:
    """Several runs on the device at once, as processes and stacked: images per second of all of them together.

    Processes under NVIDIA's Multi-Process Service are a separate ``way`` from time-sliced ones.
    """
    steps = settings.blocks * settings.steps
    processes = "processes by MPS" if settings.device == "cuda" and machine.has_mps() else "processes"
    for name in names:
        task = settings.task(name)
        for count in counts:
            for way, measure in ((processes, time_processes), ("stacked", time_stacked)):
                with _room_for(f"{name}, {count} runs at once, {way}", settings):
                    seconds = measure(task, count, steps)
                images_per_second = count * settings.batch_size / seconds
                report(f"{name}: {count} runs at once, {way}: {images_per_second:.0f} images/s")
                yield {
                    "network": name,
                    **_how(task),
                    "way": way,
                    "runs": count,
                    "ms": 1000 * seconds,
                    "images/s": images_per_second,
                    "runs/hour": 3600 * images_per_second / IMAGES_OF_A_RUN,
                }


def select(names: Iterable[str], only: Iterable[str]) -> list[str]:
    """The names that match one of the globs, in order; all without globs.

    Raises:
        UserError: one of them matches nothing.
    """
    names, only = list(dict.fromkeys(names)), list(only)
    check_globs(only, names, "measured network", names)
    return [name for name in names if not only or any(matches(name, glob) for glob in only)]


def check(name: str) -> NetworkSpec:
    """The network that ``NAME[:OPTION=VALUE,...]`` stands for.

    Raises:
        UserError: there is no such network.
    """
    spec = parse_network(name).network
    if spec.name not in list_networks():
        raise UserError(f"unknown network {spec.name!r}; {closest(spec.name, list_networks())}")
    return spec


@contextmanager
def _room_for(name: str, settings: Settings) -> Iterator[None]:
    """Inside, nothing that was measured before holds memory or compiled code.

    Raises:
        UserError: what is measured does not fit in the device's memory.
    """
    machine.free_memory(settings.device)
    try:
        yield
    except RuntimeError as error:
        if not _lacks_memory(error):
            raise
        died = isinstance(error, BrokenProcessPool)
        what = "ended the process that measured it, perhaps for want of" if died else "does not fit in"
        raise UserError(
            f"{name} {what} memory at batch {settings.batch_size} ({str(error).partition('. ')[0]}); "
            "lower --batch-size or leave it out by --only; what was measured before is kept"
        ) from error


def _lacks_memory(error: RuntimeError) -> bool:
    """Of a GPU, of the CPU's allocator, or of the system, which then kills the process that measures."""
    return isinstance(error, torch.OutOfMemoryError | BrokenProcessPool) or "allocate memory" in str(error)


def _time(loops: Mapping[str, Loop], settings: Settings) -> Times:
    return time_side_by_side(loops, settings.device, settings.blocks, settings.steps)


def _ratios(found: Sequence[float], name: str) -> Row:
    """The processes' median ratio under this name, and how far they differ."""
    return {name: median(found), "lowest ratio": min(found), "highest ratio": max(found), "processes": len(found)}


def _ratio(ours: int | None, theirs: int | None) -> float | None:
    return ours / theirs if ours and theirs else None


def environment(settings: Settings) -> dict[str, Any]:
    """What the figures were measured on, for the notes under the table."""
    return {
        **machine.environment(settings.device),
        "batch_size": settings.batch_size,
        "blocks": settings.blocks,
        "steps": settings.steps,
    }


def _how(task: Task) -> Row:
    recipe = task.recipe
    mode = next(name for name, value in run.COMPILE.items() if value == recipe.compile)
    return {
        "definition": network_definition(task.network.name, task.network.options),
        "precision": recipe.precision,
        "channels_last": recipe.channels_last,
        "compile": mode,
    }


def _utilisation(operations: float, task: Task) -> float | None:
    """Model FLOP utilisation, where the device's peak is known and the precision is that of the peak."""
    if task.device != "cuda" or task.recipe.precision != "bf16-mixed":
        return None
    name = torch.cuda.get_device_name()
    return next((operations / peak for key, peak in PEAK_OPERATIONS.items() if key in name), None)
