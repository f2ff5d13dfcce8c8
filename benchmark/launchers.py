"""Which launcher, torchrun or srun, started this process as one of several. Imports no torch.

With ``--devices`` and ``--nodes`` 1 nobody asks: a cluster's variables change nothing then.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from benchmark.errors import UserError


@dataclass(frozen=True)
class Place:
    """A process among the ``size`` that a launcher (``"torchrun"`` or ``"srun"``) started; ranks count from 0."""

    launcher: str
    rank: int
    local_rank: int
    size: int


def process_name(rank: int, size: int) -> str:
    """A process of a group, as messages name it."""
    return f"process {rank} of {size}"


def find_place(environment: Mapping[str, str]) -> Place | None:
    """This process's place; None if no launcher started it with others.

    A job's batch script and an interactive shell have SLURM's variables too; they count as not launched if the job
    has one task, or bears the name that marks it as interactive.

    Raises:
        UserError: a variable is missing or is no number.
    """
    if "TORCHELASTIC_RUN_ID" in environment:
        return _place("torchrun", environment, "RANK", "LOCAL_RANK", "WORLD_SIZE")
    if environment.get("SLURM_JOB_NAME") in ("bash", "interactive") or "SLURM_PROCID" not in environment:
        return None
    place = _place("srun", environment, "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NTASKS")
    return place if place.size > 1 else None


def _place(launcher: str, environment: Mapping[str, str], *names: str) -> Place:
    try:
        return Place(launcher, *(int(environment[name]) for name in names))
    except (KeyError, ValueError) as error:
        raise UserError(f"{launcher} did not set {', '.join(names)} to numbers: {error}") from error


def check_place(place: Place | None, devices: int, nodes: int, environment: Mapping[str, str]) -> None:
    """Raises:
    UserError: what was launched is not what was asked for.
    """
    for option, value in (("--devices", devices), ("--nodes", nodes)):
        if value < 1:
            raise UserError(f"{option} is {value}; it must be at least 1")
    if place is None:
        if nodes > 1:
            raise UserError(f"--nodes {nodes} needs a launcher: {_how_to_launch(devices, nodes)}")
        return
    if place.size != devices * nodes:
        raise UserError(
            f"{place.launcher} started {place.size} processes, and --devices {devices} --nodes {nodes} asks for "
            f"{devices * nodes}"
        )
    if place.launcher == "srun":
        _check_slurm(devices, nodes, environment)


def _how_to_launch(devices: int, nodes: int) -> str:
    command = f"-m benchmark run EXPERIMENT --devices {devices} --nodes {nodes}"
    torchrun = f"torchrun --nnodes={nodes} --nproc-per-node={devices} --rdzv-backend=c10d --rdzv-endpoint=HOST"
    srun = f"srun --nodes={nodes} --ntasks-per-node={devices} python"
    return f"call `{torchrun} {command}` on each node, or `{srun} {command}` in a SLURM job"


def _check_slurm(devices: int, nodes: int, environment: Mapping[str, str]) -> None:
    """Lightning asks for these too, in more lines."""
    for name, option, asked in (
        ("SLURM_NTASKS_PER_NODE", "--ntasks-per-node", devices),
        ("SLURM_NNODES", "--nodes", nodes),
    ):
        found = environment.get(name, None if name == "SLURM_NTASKS_PER_NODE" else str(nodes))
        if found != str(asked):
            raise UserError(f"{name} is {found or 'not set'}; start the job with {option}={asked}")
