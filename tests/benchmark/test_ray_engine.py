"""A worker on a node that does not see the driver's files says which. Needs no Ray."""

import os
import re
import socket
from dataclasses import replace

import pytest

from benchmark import grid, ray_engine
from benchmark.errors import UserError
from benchmark.experiments import get_experiment
from benchmark.ledger import RunFolder
from benchmark.ray_engine import Order
from benchmark.tracking import Tracker, TrackingOptions


@pytest.fixture
def order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ((cell, _),) = grid.select_cells(get_experiment("quickstart"), tmp_path, "cpu", "smoke", only=["plain14"])
    folder = RunFolder(tmp_path / "results", cell, 0)
    folder.path.mkdir(parents=True)
    tracker = Tracker(TrackingOptions(), tmp_path / "results")
    return Order(folder, "plain", tmp_path, "cpu", 1, tracker, driver="one", has_data=True)


def test_a_worker_goes_where_the_driver_is(order, tmp_path):
    os.chdir("/")
    ray_engine._enter(order)
    assert os.getcwd() == str(tmp_path)


def test_a_directory_that_is_not_shared_is_named_with_the_node(order, tmp_path):
    missing = tmp_path / "missing"
    elsewhere = RunFolder(missing, order.folder.cell, 0)
    for other, path in (
        (replace(order, home=missing), missing),
        (replace(order, data_dir=missing), missing),
        (replace(order, folder=elsewhere), tmp_path / "results"),
    ):
        with pytest.raises(
            UserError, match=f"^{re.escape(str(path))}.* on node {socket.gethostname()}.*; share it$"
        ):
            ray_engine._enter(other)
