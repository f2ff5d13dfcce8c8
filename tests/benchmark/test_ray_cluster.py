"""How many runs a Ray holds, and what is said before it is asked. Needs no Ray."""

import importlib.util

import pytest

from benchmark import machine, ray_cluster, start
from benchmark.errors import UserError
from benchmark.ray_cluster import Cluster, RayOptions, check


@pytest.mark.parametrize("runs", [1, 2, 3, 4, 7, 9, 11])
def test_as_many_runs_share_a_gpu_as_were_asked_for(monkeypatch, runs):
    """Ray keeps four decimals of a share."""
    share = ray_cluster._share(runs)
    assert share == round(share, 4)
    assert runs * share <= 1 < (runs + 1) * share
    monkeypatch.setattr(
        ray_cluster, "_resources", lambda: [{"CPU": 64, "GPU": 2}, {"CPU": 3, "GPU": 1}, {"CPU": 8}]
    )
    assert Cluster("here", 1, share).slots() == 2 * runs + min(runs, 3)


def test_cpus_are_counted_node_by_node(monkeypatch):
    monkeypatch.setattr(ray_cluster, "_resources", lambda: [{"CPU": 7}, {"CPU": 2}, {}])
    assert Cluster("here", 3, 0.0).slots() == 2
    assert Cluster("here", 1, 0.0).slots() == 9


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'optimizer-inspired-networks\[ray\]'"):
        check(RayOptions())


@pytest.mark.parametrize("address", ["ray://localhost:10001", "nonsense", "localhost:port", "localhost:99999999"])
def test_what_is_no_address_is_a_mistake(monkeypatch, address):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)
    with pytest.raises(UserError, match=address):
        check(RayOptions(address=address))


@pytest.mark.parametrize("options", [{"runs_per_gpu": 0}, {"cpus_per_run": -1}])
def test_numbers_below_one_are_a_mistake(options):
    with pytest.raises(UserError, match="must be at least 1"):
        RayOptions(**options)


def test_a_gpu_is_not_divided_into_parts_that_ray_counts_as_none():
    assert ray_cluster._share(RayOptions(runs_per_gpu=10_000).runs_per_gpu) > 0
    with pytest.raises(UserError, match="--runs-per-gpu is 10001; Ray divides a GPU into at most 10,000"):
        RayOptions(runs_per_gpu=10_001)


@pytest.mark.parametrize(
    ("device", "options", "has_mps", "expected"),
    [
        ("cuda", {"runs_per_gpu": 4}, False, True),
        ("cuda", {"runs_per_gpu": 4}, True, False),
        ("cuda", {"runs_per_gpu": 1}, False, False),
        ("cuda", {"runs_per_gpu": 4, "address": "localhost:6379"}, False, False),
        ("cpu", {"runs_per_gpu": 4}, False, False),
    ],
)
def test_runs_take_turns_on_a_gpu_that_they_share_without_mps(monkeypatch, device, options, has_mps, expected):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(machine, "has_mps", lambda: has_mps)
    assert start._take_turns(RayOptions(**options), device) == expected


def test_an_address_of_the_environment_is_taken_unless_one_is_given(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    places = {address: RayOptions(address).place for address in (None, "auto", "local", "other:1")}
    assert places == {None: "head:6379", "auto": "head:6379", "local": "local", "other:1": "other:1"}
    monkeypatch.delenv("RAY_ADDRESS")
    assert [RayOptions(address).place for address in (None, "auto")] == ["local", "auto"]
