"""The speed tables and their bar chart, from rows that were measured."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from tabulate import tabulate

from benchmark.arguments import parse_definition
from benchmark.commits import commit_name
from benchmark.errors import UserError
from benchmark.ledger import write_atomically
from benchmark.report.figures import OKABE_ITO, STYLE, write_figure
from benchmark.report.layout import NOTHING, three_digits

Row = Mapping[str, Any]

LOOPS = {"reference": "usual loop", "ours": "ours", "bare": "bare loop"}
ORIGIN = ("batch size", "steps", "torch", "lightning", "commit")
PHASES = ("data", "forward", "backward", "optimizer")
MEGABYTE = 1e6


def write_speed(results: Path, measured: Mapping[str, Sequence[Row]], environment: Row) -> list[Path]:
    """Write ``tables/speed-<device>.md``, a ``-<table>.csv`` for each of ``TABLES``, and a chart.

    What was measured before on the same device stays, unless it was measured again.

    Raises:
        UserError: a table that is there cannot be read, or the folder cannot be written.
    """
    stem = f"speed-{slug(environment['device'])}"
    tables = Path(results) / "tables"
    paths, kept = [], {}
    for name in TABLES:
        path, rows = tables / f"{stem}-{name}.csv", measured.get(name, ())
        kept[name] = merge(path, [{**row, **_origin(environment)} for row in rows], _key)
        if rows:
            text = pd.DataFrame(kept[name]).to_csv(index=False, float_format="%.5g", lineterminator="\n")
            paths.append(path)
            write_atomically(path, text)
    paths.append(tables / f"{stem}.md")
    kept = _tell_apart(kept)
    write_atomically(paths[-1], to_text(kept, environment["device"]))
    if kept["loops"]:
        with rc_context(STYLE):
            figure = draw_loops(kept["loops"], environment["device"])
            paths += write_figure(figure, Path(results) / "plots" / stem)
    return paths


def check_tables(results: Path, device: str) -> None:
    """Check before measuring that its results can be saved.

    Raises:
        UserError: a table that is there cannot be read.
    """
    for name in TABLES:
        merge(Path(results) / "tables" / f"speed-{slug(device)}-{name}.csv", (), _key)


def to_text(tables: Mapping[str, Sequence[Row]], device: str) -> str:
    """The tables and what they were measured on, as Markdown."""
    parts = ["# Speed of a training step"]
    for name, (title, line) in TABLES.items():
        if tables[name]:
            parts += [f"## {title}", markdown_table([line(row) for row in tables[name]])]
    notes = _notes([row for rows in tables.values() for row in rows], device)
    if any(_was_shared(row) for rows in tables.values() for row in rows):
        notes.append(
            "By process: lowest and highest ratio (the column before) over so many processes, which shared the "
            "steps. Such a row's ratios and ms are medians over the processes."
        )
    if tables["torchvision"]:
        notes.append(
            "Beside torchvision's models: bare loops with the same settings, taking turns, on noise of 224 pixels."
        )
    notes = "\n".join(f"- {note}" for note in notes)
    return "\n\n".join([*parts, notes]) + "\n"


def draw_loops(loops: Sequence[Row], device: str) -> Figure:
    """Images per second of each loop, a group of bars for each network, with the ratio over ours."""
    height = 0.27
    figure = Figure(figsize=(6.4, 1.2 + 0.55 * len(loops)), layout="constrained")
    ax = figure.add_subplot()
    at = np.arange(len(loops))
    for i, (loop, label) in enumerate(LOOPS.items()):
        speeds = [1000 * row["batch size"] / row[f"{loop} ms"] for row in loops]
        bars = ax.barh(at + (i - 1) * height, speeds, height, label=label, color=OKABE_ITO[i])
        if loop == "ours":
            ax.bar_label(bars, [f" {row['ours vs reference']:.2f}×" for row in loops], fontsize=8)
    ax.set_yticks(at, _bar_names(loops))
    ax.invert_yaxis()
    ax.set(xlabel="images per second", title=device)
    ax.margins(x=0.1)
    figure.legend(loc="outside lower center", ncols=len(LOOPS))
    return figure


def _bar_names(loops: Sequence[Row]) -> list[str]:
    """The networks, with the settings of those that were measured in several."""
    count = Counter(row["network"] for row in loops)
    return [
        row["network"] if count[row["network"]] == 1 else f"{row['network']}\n{_settings(row)}" for row in loops
    ]


def _loop_line(row: Row) -> dict[str, str]:
    total = sum(row[f"{phase} ms"] for phase in PHASES)
    line = {
        "network": row["network"],
        "precision": _settings(row),
        "usual loop, ms": three_digits(row["reference ms"]),
        "bare, ms": three_digits(row["bare ms"]),
        "ours, ms": three_digits(row["ours ms"]),
        "ours, images/s": f"{row['images/s']:,.0f}",
        "× usual": f"{row['ours vs reference']:.2f}",
        "by process": _spread(row),
        "of bare": f"{row['ours vs bare']:.2f}",
        "data, ms": three_digits(row["data ms"]),
        "data / forward / backward / optimizer, %": " / ".join(
            f"{100 * row[f'{phase} ms'] / total:.0f}" for phase in PHASES
        ),
        "peak MB, usual": _megabytes(row["reference peak bytes"]),
        "peak MB, ours": _megabytes(row["ours peak bytes"]),
        "TFLOP/s": three_digits(row["TFLOP/s"]),
    }
    if row["utilisation"] is not None:
        line["utilisation, %"] = f"{100 * row['utilisation']:.1f}"
    return line


def _structure_line(row: Row) -> dict[str, str]:
    return {
        "network": row["network"],
        "baseline": row["baseline"],
        "precision": _settings(row),
        "ms": three_digits(row["ms"]),
        "baseline, ms": three_digits(row["baseline ms"]),
        "time ratio": f"{row['time ratio']:.3f}",
        "by process": _spread(row),
        "MB": _megabytes(row["memory bytes"]),
        "memory ratio": NOTHING if row["memory ratio"] is None else f"{row['memory ratio']:.3f}",
    }


def _spread(row: Row) -> str:
    """``1.005 to 1.030 (5)``: the lowest and the highest ratio, and how many processes there were."""
    if not _was_shared(row):
        return NOTHING
    return f"{row['lowest ratio']:.3f} to {row['highest ratio']:.3f} ({row['processes']:.0f})"


def _was_shared(row: Row) -> bool:
    """Whether several processes shared the steps; older tables lack the column."""
    return (row.get("processes") or 1) > 1


def _megabytes(count: float | None) -> str:
    return NOTHING if count is None else f"{count / MEGABYTE:,.0f}"


def _settings(row: Row) -> str:
    """``bf16-mixed, CUDA graphs``."""
    modes = {
        "off": "",
        "default": ", compiled",
        "graphs": ", CUDA graphs",
        "compiled-graphs": ", compiled, CUDA graphs",
    }
    return row["precision"] + modes.get(row["compile"], f", compiled ({row['compile']})")


def _packed_line(row: Row) -> dict[str, str]:
    return {
        "network": row["network"],
        "precision": _settings(row),
        "runs at once": f"{row['runs']}, {row['way']}",
        "ms": three_digits(row["ms"]),
        "images/s of all": f"{row['images/s']:,.0f}",
        "runs of 300 epochs an hour": f"{row['runs/hour']:.3g}",
    }


def _torchvision_line(row: Row) -> dict[str, str]:
    return {
        "network": row["network"],
        "torchvision's": row["torchvision"],
        "precision": _settings(row),
        "batch": str(row["batch size"]),
        "ms": three_digits(row["ours ms"]),
        "torchvision's, ms": three_digits(row["torchvision ms"]),
        "images/s": three_digits(row["ours images/s"]),
        "torchvision's, images/s": three_digits(row["torchvision images/s"]),
        "× torchvision's": f"{row['throughput ratio']:.3f}",
        "by process": _spread(row),
        "MB": _megabytes(row["ours memory bytes"]),
        "memory ratio": NOTHING if row["memory ratio"] is None else f"{row['memory ratio']:.3f}",
    }


TABLES = {
    "loops": ("Our path, the usual loop and a bare loop", _loop_line),
    "structures": ("What a structure costs", _structure_line),
    "packed": ("Several runs on one device", _packed_line),
    "torchvision": ("ImageNet's networks beside torchvision's", _torchvision_line),
}
"""The title and the lines of each table, by the end of its file's name."""


def _notes(rows: Sequence[Row], device: str) -> list[str]:
    made = {name: ", ".join(sorted({str(row[name]) for row in rows})) for name in ORIGIN}
    return [
        f"{device}; batch {made['batch size']}; torch {made['torch']}, pytorch-lightning {made['lightning']}; "
        f"commit {made['commit']}.",
        f"Medians of {made['steps']} steps of each loop; a row's loops are interleaved.",
        "Usual loop: torchvision's PIL transforms, a DataLoader with 2 workers, float32, NCHW, plain SGD. "
        "Bare loop: our settings on tensors that lie ready. Ours: Trainer, datamodule, metrics, callbacks.",
        "Peak memory: of the process on a CPU (without the DataLoader's workers), allocated on a GPU. "
        "TFLOP/s: 6 times the multiply-adds of a forward pass.",
        "What a structure costs: bare loops; memory beyond that of the process before the network.",
    ]


def _origin(environment: Row) -> Row:
    """What a row was measured with, in the row itself, since rows of several calls share a table."""
    versions = environment["versions"]
    values = (
        environment["batch_size"],
        environment["blocks"] * environment["steps"],
        versions["torch"],
        versions["pytorch-lightning"],
        commit_name(environment["git"]),
    )
    return dict(zip(ORIGIN, values, strict=True))


def merge(path: Path, rows: Sequence[Row], key: Callable[[Row], tuple[str, ...]]) -> list[Row]:
    """The rows of the table at ``path``, those that were measured again replaced, new ones after them.

    Args:
        key: what a row is of.

    Raises:
        UserError: another table is there.
    """
    if not path.exists():
        return list(rows)
    try:
        before = pd.read_csv(path, dtype={"commit": str, "torch": str, "lightning": str}).astype(object)
        old = {key(row): row for row in before.where(before.notna(), None).to_dict("records")}
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} is not a table of speeds ({error!r}); move it away to measure anew") from error
    return list((old | {key(row): row for row in rows}).values())


def _key(row: Row) -> tuple[str, ...]:
    """What a row is of."""
    names = ("network", "precision", "compile", "batch size", "way", "runs")
    return str(parse_definition(row.get("definition"))), *(
        str(row[name]) for name in names if name == "network" or name in row
    )


def _tell_apart(tables: Mapping[str, Sequence[Row]]) -> dict[str, list[Row]]:
    """The rows, with the definition in the name of those whose network was measured in a newer one, too."""
    newest: dict[str, int] = {}
    for row in (row for rows in tables.values() for row in rows):
        newest[row["network"]] = max(parse_definition(row.get("definition")), newest.get(row["network"], 1))
    return {name: [_with_definition(row, newest[row["network"]]) for row in rows] for name, rows in tables.items()}


def _with_definition(row: Row, newest: int) -> Row:
    definition = parse_definition(row.get("definition"))
    return row if definition == newest else {**row, "network": f"{row['network']} (definition {definition})"}


def markdown_table(lines: Sequence[Mapping[str, str]], text_columns: int = 2) -> str:
    """In Markdown, the first ``text_columns`` columns to the left."""
    align = ["left" if i < text_columns else "right" for i in range(len(lines[0]))]
    return tabulate(lines, headers="keys", tablefmt="pipe", colalign=align, disable_numparse=True)


def slug(device: str) -> str:
    """``GPU: NVIDIA H200`` as ``gpu-nvidia-h200``."""
    return re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")
