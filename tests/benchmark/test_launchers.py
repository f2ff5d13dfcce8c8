"""Which launcher started a process, and whether it started what was asked for."""

import pytest

from benchmark.errors import UserError
from benchmark.launchers import Place, check_place, find_place

TORCHRUN = {"TORCHELASTIC_RUN_ID": "1", "RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4"}
SLURM = {
    "SLURM_JOB_NAME": "train",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_NTASKS": "4",
    "SLURM_NTASKS_PER_NODE": "2",
    "SLURM_NNODES": "2",
}


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({}, None),
        ({"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"}, None),
        (TORCHRUN, Place("torchrun", 3, 1, 4)),
        (SLURM, Place("srun", 3, 1, 4)),
        ({**SLURM, **TORCHRUN, "SLURM_NTASKS": "2"}, Place("torchrun", 3, 1, 4)),
        ({**SLURM, "SLURM_JOB_NAME": "bash"}, None),
        ({**SLURM, "SLURM_PROCID": "0", "SLURM_NTASKS": "1"}, None),
        ({"SLURM_JOB_ID": "7"}, None),
    ],
    ids=["none", "stray variables", "torchrun", "srun", "torchrun by srun", "a shell", "one task", "a job"],
)
def test_place(environment, place):
    assert find_place(environment) == place


def test_a_launcher_that_does_not_say_which_process_this_is():
    with pytest.raises(UserError, match="torchrun did not set RANK, LOCAL_RANK, WORLD_SIZE to numbers"):
        find_place({**TORCHRUN, "RANK": "first"})


@pytest.mark.parametrize(
    ("place", "devices", "nodes", "environment", "part"),
    [
        (None, 0, 1, {}, "--devices is 0; it must be at least 1"),
        (None, 1, -1, {}, "--nodes is -1; it must be at least 1"),
        (None, 8, 2, {}, "torchrun --nnodes=2 --nproc-per-node=8"),
        (None, 8, 2, {}, "srun --nodes=2 --ntasks-per-node=8 python -m benchmark run"),
        (
            Place("torchrun", 0, 0, 4),
            8,
            1,
            {},
            "torchrun started 4 processes, and --devices 8 --nodes 1 asks",
        ),
        (
            Place("srun", 0, 0, 4),
            2,
            2,
            {},
            "SLURM_NTASKS_PER_NODE is not set; start the job with --ntasks-per",
        ),
        (Place("srun", 0, 0, 4), 4, 1, SLURM, "NTASKS_PER_NODE is 2; start the job with --ntasks-per-node=4"),
        (Place("srun", 0, 0, 4), 2, 2, {**SLURM, "SLURM_NNODES": "1"}, "SLURM_NNODES is 1; start the job with"),
    ],
    ids=str,
)
def test_what_was_not_launched_as_asked(place, devices, nodes, environment, part):
    with pytest.raises(UserError) as error:
        check_place(place, devices, nodes, environment)
    assert part in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("place", "devices", "nodes"), [(None, 8, 1), (Place("torchrun", 0, 0, 4), 2, 2)], ids=str)
def test_what_was_launched_as_asked(place, devices, nodes):
    check_place(place, devices, nodes, {})


def test_srun_as_asked():
    check_place(find_place(SLURM), 2, 2, SLURM)
