"""What can be said on the command line: a dataclass for each command, as tyro reads it. Imports no torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from benchmark.experiments import EXPERIMENTS

ExperimentName = Annotated[
    str, tyro.conf.Positional, tyro.conf.arg(metavar="EXPERIMENT", help=f"One of: {', '.join(EXPERIMENTS)}.")
]
Words = tuple[str, ...]


@dataclass(frozen=True)
class Selection:
    """Which runs of an experiment."""

    experiment: ExperimentName
    profile: str | None = None
    """paper (the published protocol), short (for a CPU or a first look; on CIFAR 15 epochs), quick (CIFAR alone: 5
    epochs, for dense networks on a CPU) or smoke (seconds, never tabulated)."""
    seeds: Annotated[Words, tyro.conf.arg(metavar="S ...")] = ()
    """Integers; by default the experiment's own, such as 0 1 2."""
    data_dir: Path | None = None
    """A folder or tar of images in train/ and test/ classes, or the folder of the official data sets; by default
    data/, where CIFAR is downloaded to. imagenet takes any folder with train/ and val/, or ImageNet's archives."""
    results_dir: Path = Path("results")
    """Where records, tables and plots go."""
    only: Annotated[Words, tyro.conf.arg(metavar="GLOB ...")] = ()
    """Rows (or row@dataset) that match, such as '*20*'; also reaches the rows beyond the paper's table."""
    dataset: Annotated[Words, tyro.conf.arg(metavar="NAME ...")] = ()
    """Data sets, such as cifar10+ (with augmentation); by default all that the data holds."""
    network: Annotated[Words, tyro.conf.arg(metavar="NAME[:OPTION=VALUE,...] ...")] = ()
    """Any registered networks in place of the table's rows, e.g. cifar_hbnet20:reading=fixed_point,depth=26."""
    validation: int = 0
    """Training images to hold out, e.g. 5000; curves then show their error, for model selection."""
    image_size: Annotated[int, tyro.conf.arg(metavar="PIXELS")] = 0
    """Crop photographs (imagenet) to this side, e.g. 64 for Tiny-ImageNet; by default the profile's, 224."""
    cache: bool = False
    """Read photographs from pixels that are resized beforehand, once, to 256 for crops of 224: much faster, much
    larger on disk ($OIN_CACHE_DIR), and named in the record."""
    subset: bool = False
    """Accept a part of ImageNet, named as such in the record; otherwise it must be complete."""
    device: str = "auto"
    """auto, cpu or cuda."""
    precision: str = "auto"
    """auto (bf16 where it is fast), 32-true or bf16-mixed; a grid continued elsewhere must keep its own."""
    compile: str = "auto"
    """auto (graphs for small images on one GPU, else default on GPUs that can), off, default (of torch.compile),
    graphs (CUDA graphs) or compiled-graphs (CUDA graphs of compiled code: faster, slow to prepare), where the
    experiment leaves it open; a grid continued elsewhere must keep its own."""


@dataclass(frozen=True)
class Plan(Selection):
    """Show the runs: parameters, multiply-adds, epochs, estimated time, and what is done already."""

    devices: Annotated[Words, tyro.conf.arg(metavar="N ...")] = ()
    """Also the time for the remaining runs on N devices like this one, and its limit, e.g. --devices 1 8 64."""
    price: float | None = None
    """Price of a device-hour, in any currency: with --devices, what each schedule costs."""
    step_times: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Plan for another device from step times measured there: its --save-step-times or `make speed` table
    (results/tables/speed-<device>-loops.csv); measures nothing."""
    save_step_times: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Add the measured step times to this csv table; of one network the fastest counts."""


@dataclass(frozen=True)
class Run(Selection):
    """Train what is not done yet, continue what was interrupted, then write the tables and plots."""

    devices: int = 1
    """GPUs per machine that share every batch, one process each (with --device cpu: processes); part of the run
    id."""
    nodes: int = 1
    """Machines; more than one need torchrun or srun (docs/distributed.md)."""
    sync_batchnorm: bool = False
    """Batch norms normalise with the whole batch, not with a GPU's part of it."""
    yes: bool = False
    """Go on without asking even if it will take more than a day."""
    wandb: str = "off"
    """off, online or offline (Weights & Biases; `wandb sync` sends what was kept offline)."""
    wandb_project: str = "optimizer-inspired-networks"
    wandb_entity: str | None = None
    """A user or team; by default your own."""
    engine: str = "inline"
    """inline (one run after another) or ray (many at once; the extra [ray])."""
    address: Annotated[str | None, tyro.conf.arg(metavar="HOST:PORT")] = None
    """With --engine ray, a Ray cluster to join: its address, or auto for the one that this machine belongs to; by
    default $RAY_ADDRESS, or a Ray of this command's own on this machine."""
    runs_per_gpu: int = 1
    """With --engine ray, runs per GPU: concurrent if NVIDIA's MPS runs there, else time-sliced."""
    cpus_per_run: int = 1
    """With --engine ray, CPU threads per run; on CPUs this sets how many runs fit at once."""


@dataclass(frozen=True)
class Tables:
    """Remake the tables and plots from the records."""

    experiment: ExperimentName
    results_dir: Path = Path("results")
    """Where records, tables and plots are."""
    sort: Annotated[str | None, tyro.conf.arg(metavar="COLUMN")] = None
    """Order the rows on the terminal by a column of the csv table, such as 'C10+ error mean' or parameters, the
    smallest first; what is written keeps the experiment's order."""
    descending: bool = False
    """With --sort, the largest first."""


@dataclass(frozen=True)
class Compare:
    """Compare two sets of results: what changed, by how much, and whether it is beyond noise."""

    a: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="A")]
    """What to compare with: a results directory, or a git revision with committed results."""
    b: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="B")]
    """What is compared; a name that is both a directory and a revision means the directory."""
    experiment: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """One experiment; by default all that both have."""
    csv: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Also write the numbers to this file, a new one or such a table; nothing is written without it."""


@dataclass(frozen=True)
class Report:
    """Write one page, report.html, from all records: tables, plots, every run and what it ran on."""

    results_dir: Path = Path("results")
    """Where the records are; tables and plots are remade with the page."""


@dataclass(frozen=True)
class Speed:
    """Measure training steps: our path, the usual loop and a bare loop side by side, and what a structure costs;
    and, without --only or with --data-dir or --feed, how many photographs a core can read."""

    only: Annotated[Words, tyro.conf.arg(metavar="GLOB ...")] = ()
    """Networks that match, such as '*56'; by default all six for CIFAR, and their ablations. 'imagenet_*' are
    measured beside torchvision's own models."""
    device: str = "auto"
    """auto, cpu or cuda."""
    precision: str = "auto"
    """auto (bf16 where it is fast), 32-true or bf16-mixed; the usual loop is always in float32."""
    compile: str = "auto"
    """auto (on a GPU graphs for small images, else default where that can be; off on a CPU), off, default (of
    torch.compile), graphs (CUDA graphs, replayed) or compiled-graphs (of compiled code)."""
    batch_size: int = 128
    blocks: int = 10
    """Blocks of steps per loop."""
    steps: int = 5
    """Steps per block; on a GPU rounded up to a multiple of 8, the batches made at once."""
    pack: Annotated[Words, tyro.conf.arg(metavar="N ...")] = ()
    """Also measure N runs at once of ResNet-56 and of DenseNet-40 on the device, as processes and stacked into one
    model, e.g. --pack 1 2 4 8."""
    data_dir: Path | None = None
    """Photographs in train/ and val/ classes to measure reading with; by default synthetic."""
    feed: Annotated[float | None, tyro.conf.arg(metavar="IMAGES")] = None
    """Images per second: say how many cores read so many photographs, as for networks measured on a GPU."""
    results_dir: Path = Path("results")
    """Where the tables and the chart go."""


@dataclass(frozen=True)
class Theory:
    """Measure how fast each method's network converges on the function it descends, beside what is proven."""

    layers: int = 120
    """Depth of the deepest network."""
    results_dir: Path = Path("results")
    """Where the tables and figures go."""


@dataclass(frozen=True)
class VerifyPaper:
    """Look for each published number in the paper's PDF, beside its row label."""

    pdf: Path | None = None
    """The paper; by default it is fetched from its public address."""
    write: bool = False
    """Mark what was verified in results/paper/*.csv."""


@dataclass(frozen=True)
class List:
    """The experiments, and the networks with their size and one line each."""


@dataclass(frozen=True)
class Show:
    """Show a network's layers and which feeds which."""

    network: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NETWORK")]
    """A registered network with options of its own, e.g. cifar_hbnet20:depth=26."""
    size: int | None = None
    """Pixels of an image's side; by default 224 for imagenet_* and 32 for the others."""
    classes: int | None = None
    """By default 1000 for imagenet_* and 10 for the others."""


@dataclass(frozen=True)
class Completion:
    """Print a shell completion script for oin: commands, options, experiments, rows, data sets and networks."""

    shell: Annotated[Literal["bash", "zsh"], tyro.conf.Positional]


Command = Plan | Run | Tables | Report | Compare | Speed | Theory | VerifyPaper | List | Show | Completion
