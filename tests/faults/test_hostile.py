"""Files from elsewhere run no code. (Archives and images: ``tests/datamodules/test_unusable_images.py``.)"""

import os
import pickle

import pytest
import torch

from lightning_modules import LitClassifier
from tests.faults.test_stops import KILLED, TRAIN, assert_same, run_to_the_end


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return os.mkdir, (self.marker,)


def write_archive(path, evil):
    torch.save({"state_dict": evil, "epoch": 5}, path)


def write_pickle(path, evil):
    path.write_bytes(pickle.dumps({"state_dict": evil}))


@pytest.fixture(scope="module")
def expected(command, tmp_path_factory):
    return run_to_the_end(command, tmp_path_factory.mktemp("expected"), TRAIN)[1]


@pytest.mark.parametrize("write", [write_archive, write_pickle])
def test_a_checkpoint_that_would_run_code_is_passed_over(command, tmp_path, expected, write):
    words = (*TRAIN, "--results-dir", tmp_path / "results")
    assert command(*words, injection=("kill_between_metrics_and_checkpoint", 5)).status == KILLED
    *_, last = sorted(tmp_path.glob("results/runs/*/*/checkpoints/*.ckpt"))
    write(last, Evil(tmp_path / "ran"))
    ended = command(*words)
    assert ended.status == 0, ended.err
    assert f"{last} cannot be read" in ended.err
    assert not (tmp_path / "ran").exists()
    assert_same(tmp_path / "results", expected)


@pytest.mark.parametrize("write", [write_archive, write_pickle])
def test_loading_a_model_runs_no_code(tmp_path, write):
    path = tmp_path / "model.ckpt"
    write(path, Evil(tmp_path / "ran"))
    with pytest.raises(pickle.UnpicklingError):
        LitClassifier.load_from_checkpoint(path)
    assert not (tmp_path / "ran").exists()


def test_the_file_would_have_run_code(tmp_path):
    """Or the tests above would pass for nothing."""
    write_archive(tmp_path / "model.ckpt", Evil(tmp_path / "ran"))
    torch.load(tmp_path / "model.ckpt", weights_only=False)
    assert (tmp_path / "ran").is_dir()
