"""What a machine can do decides the precision; a wish that it cannot grant is refused."""

import socket
import subprocess
from pathlib import Path

import pytest
import torch

from benchmark import grid, machine, run
from benchmark.errors import UserError
from benchmark.experiments import get_experiment
from benchmark.specs import NetworkSpec, RecipeSpec


@pytest.mark.parametrize(
    ("avx512_bf16", "amx", "cpu", "expected"),
    [
        (True, False, "vendor_id : AuthenticAMD", "bf16-mixed"),
        (True, False, "vendor_id : GenuineIntel", "32-true"),
        (True, True, "vendor_id : GenuineIntel", "bf16-mixed"),
        (False, False, "vendor_id : AuthenticAMD", "32-true"),
    ],
)
def test_auto_takes_bf16_on_the_cpus_where_it_is_faster(monkeypatch, avx512_bf16, amx, cpu, expected):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(machine, "_cpu_info", lambda: cpu)
    assert machine.choose_precision("auto", "cpu") == expected


@pytest.mark.parametrize(
    ("device", "compiles", "row", "asked", "expected"),
    [
        ("cuda", True, "resnet20", "auto", "graphs"),
        ("cuda", False, "resnet20", "auto", "graphs"),
        ("cpu", True, "resnet20", "auto", False),
        ("cuda", True, "resnet20", "off", False),
        ("cuda", True, "resnet20", "default", True),
        ("cuda", True, "resnet20", "compiled-graphs", "compiled-graphs"),
        ("cuda", True, "resnet20-reference", "default", False),
    ],
)
def test_small_images_go_by_graphs_on_a_gpu_unless_asked_otherwise(
    monkeypatch, tmp_path, image_tar, device, compiles, row, asked, expected
):
    monkeypatch.setenv("OIN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(machine, "can_compile", lambda device: compiles)
    monkeypatch.setattr(machine, "has_fast_bf16", lambda device: False)
    experiment = get_experiment("cifar")
    cells = grid.select_cells(experiment, image_tar, device, only=[f"cifar_{row}@cifar10"], compile=asked)
    assert [cell.recipe.compile for cell, _ in cells] == [expected]


def test_devices_that_share_a_run_compile(monkeypatch, tmp_path, image_tar):
    monkeypatch.setenv("OIN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(machine, "can_compile", lambda device: True)
    monkeypatch.setattr(machine, "has_fast_bf16", lambda device: False)
    experiment = get_experiment("cifar")
    for devices, expected in ((1, "graphs"), (2, True)):
        cells = grid.select_cells(experiment, image_tar, "cuda", only=["cifar_resnet20@cifar10"], devices=devices)
        assert [cell.recipe.compile for cell, _ in cells] == [expected]


@pytest.mark.parametrize("compiles", [True, False])
@pytest.mark.parametrize(
    ("options", "recipe"),
    [
        ({"memory_efficient": True, "dropout": 0.2}, {}),
        ({}, {"devices": 2}),
        ({}, {"image_size": 224}),
    ],
    ids=str,
)
def test_what_graphs_cannot_do_or_do_not_speed_up_is_compiled(monkeypatch, options, recipe, compiles):
    monkeypatch.setattr(machine, "can_compile", lambda device: compiles)
    network, recipe = NetworkSpec("cifar_densenet40", options), RecipeSpec(precision="32-true", **recipe)
    assert run.resolve_recipe(recipe, "cuda", network).compile is compiles


@pytest.mark.parametrize(
    ("device", "way", "message"),
    [
        ("cuda", "compiled-graphs", r"--compile compiled-graphs needs Triton .*a C compiler and .* take graphs"),
        ("cuda", True, r"--compile default needs Triton .*a C compiler and Python's headers; take off"),
        ("cpu", True, r"--compile default needs a C\+\+ compiler that works \(g\+\+, or what CXX .*; take off"),
    ],
)
def test_compiling_without_a_compiler(monkeypatch, device, way, message):
    monkeypatch.setattr(machine, "can_compile", lambda device: False)
    recipe = RecipeSpec(precision="32-true", compile=way)
    with pytest.raises(UserError, match=message):
        run.resolve_recipe(recipe, device, NetworkSpec("cifar_resnet20"))


@pytest.mark.parametrize("way", ["graphs", "compiled-graphs"])
@pytest.mark.parametrize(
    ("device", "options", "reason"),
    [("cpu", {}, "needs a GPU; take off or auto"), ("cuda", {"devices": 2}, "is for runs on one device")],
)
def test_graphs_that_cannot_be(monkeypatch, tmp_path, image_tar, device, options, reason, way):
    monkeypatch.setenv("OIN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(machine, "has_fast_bf16", lambda device: False)
    with pytest.raises(UserError, match=f"--compile {way} {reason}"):
        grid.select_cells(get_experiment("cifar"), image_tar, device, compile=way, **options)


def test_networks_that_cannot_be_captured_are_named_before_training(monkeypatch, tmp_path, image_tar):
    monkeypatch.setenv("OIN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(machine, "has_fast_bf16", lambda device: False)
    network = "cifar_densenet40:depth=10,memory_efficient=True,dropout=0.2"
    cells = grid.select_cells(
        get_experiment("cifar"), image_tar, "cuda", datasets=["cifar10"], networks=[network], compile="graphs"
    )
    with pytest.raises(UserError, match="cifar_densenet40: a memory_efficient network with dropout cannot be"):
        grid.check_networks(cells)


@pytest.fixture
def offer(monkeypatch, tmp_path):
    """Compilers on the path that start or do not, a variable that names one or none, Python's headers or none."""
    path = tmp_path / "path"
    path.mkdir()

    def offer(compilers, variable, named, headers, starts=True):
        if named:
            monkeypatch.setenv(variable, named)
        else:
            monkeypatch.delenv(variable, raising=False)
        if headers:
            (tmp_path / "Python.h").touch()
        for name in compilers:
            (path / name).write_text(f"#!/bin/sh\nexit {0 if starts else 1}\n")
            (path / name).chmod(0o755)
        monkeypatch.setenv("PATH", str(path))
        monkeypatch.setattr(machine.sysconfig, "get_path", lambda name: str(tmp_path))

    return offer


@pytest.mark.parametrize(
    ("compilers", "cc", "headers", "expected"),
    [
        (["gcc"], None, True, True),
        (["clang"], None, True, True),
        ([], None, True, False),
        ([], "icx", True, True),
        (["gcc"], None, False, False),
    ],
)
def test_gpus_without_a_c_compiler_or_pythons_headers_do_not_compile(
    monkeypatch, offer, compilers, cc, headers, expected
):
    offer(compilers, "CC", cc, headers)
    monkeypatch.setattr(machine, "has_triton", lambda: True)
    assert machine.can_compile("cuda") is expected


@pytest.mark.parametrize(
    ("system", "cxx", "headers", "starts", "expected"),
    [
        ("linux", None, True, True, True),
        ("linux", None, False, True, False),
        ("linux", None, True, False, False),
        ("linux", "icpx", True, True, False),
        ("linux", "clang++", True, True, True),
        ("darwin", None, True, True, True),
    ],
)
def test_cpus_compile_on_demand_where_a_cxx_compiler_works(
    monkeypatch, offer, system, cxx, headers, starts, expected
):
    offer(["clang++"] if system == "darwin" or cxx else ["g++"], "CXX", cxx, headers, starts)
    monkeypatch.setattr(machine.sys, "platform", system)
    assert machine.can_compile("cpu") is expected


def test_cpus_do_not_compile_unasked(monkeypatch):
    monkeypatch.setattr(machine, "can_compile", lambda device: True)
    recipe = RecipeSpec(precision="32-true")
    assert run.resolve_recipe(recipe, "cpu", NetworkSpec("cifar_hbnet20")).compile is False


def test_every_network_of_a_grid_is_compiled():
    """torch compiles one ``forward`` a limited number of times; freed memory starts the count anew."""
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    def forward(x):
        return 2 * x

    sizes = range(2, 2 * torch._dynamo.config.recompile_limit + 2)
    for size in sizes:
        machine.free_memory("cpu")
        torch.compile(forward, backend=backend, dynamic=False)(torch.ones(size))
    assert len(graphs) == len(sizes)


def test_a_precision_asked_for_is_kept():
    assert machine.choose_precision("bf16-mixed", "cpu") == "bf16-mixed"


def test_bf16_on_a_gpu_without_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla K80")
    assert machine.choose_precision("auto", "cuda") == "32-true"
    with pytest.raises(UserError, match="bf16-mixed is not supported by Tesla K80; take 32-true"):
        machine.choose_precision("bf16-mixed", "cuda")


@pytest.mark.parametrize(
    ("devices", "nodes", "gpu", "cpu"),
    [
        (1, 1, "GPU: NVIDIA H200", "CPU: EPYC, 1 thread"),
        (8, 1, "GPU: 8 x NVIDIA H200", "CPU: EPYC, 8 processes of 1 thread"),
        (8, 2, "GPU: 2 nodes of 8 x NVIDIA H200", "CPU: EPYC, 2 nodes of 8 processes of 1 thread"),
        (1, 2, "GPU: 2 nodes of 1 x NVIDIA H200", "CPU: EPYC, 2 nodes of 1 process of 1 thread"),
    ],
)
def test_devices_are_described_with_their_number(monkeypatch, devices, nodes, gpu, cpu):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H200")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr(machine, "_cpu_name", lambda: "EPYC")
    assert machine.describe_device("cuda", devices, nodes) == gpu
    assert machine.describe_device("cpu", devices, nodes) == cpu


@pytest.fixture
def copy(monkeypatch, tmp_path):
    """A folder that the code seems to lie in."""
    monkeypatch.setattr(machine, "__file__", str(tmp_path / "benchmark" / "machine.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.delenv("OIN_COMMIT", raising=False)
    return tmp_path


def test_a_copy_without_git_is_told_its_commit(copy, monkeypatch):
    assert machine.git_state() == {"commit": None, "dirty": False}
    monkeypatch.setenv("OIN_COMMIT", "0123abc")
    assert machine.git_state() == {"commit": "0123abc", "dirty": False}


def _commit_all(folder):
    """The commit of a new repository of what is in the folder."""
    who = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    for words in (["init"], ["add", "."], ["commit", "--no-gpg-sign", "-m", "first"], ["rev-parse", "HEAD"]):
        done = subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_a_checkout_knows_its_commit_better(copy, monkeypatch):
    monkeypatch.setenv("OIN_COMMIT", "0123abc")
    (copy / "code.py").write_text("")
    commit = _commit_all(copy)
    assert machine.git_state() == {"commit": commit, "dirty": False}
    (copy / "code.py").write_text("changed")
    assert machine.git_state()["dirty"]


def test_a_copy_inside_another_project_is_not_of_its_commit(copy, monkeypatch):
    (copy / "notes.txt").write_text("")
    _commit_all(copy)
    monkeypatch.setattr(machine, "__file__", str(copy / "venv" / "benchmark" / "machine.py"))
    (copy / "venv").mkdir()
    assert machine.git_state() == {"commit": None, "dirty": False}
    monkeypatch.setenv("OIN_COMMIT", "0123abc")
    assert machine.git_state() == {"commit": "0123abc", "dirty": False}


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_SEQPACKET], ids=["stream", "packets"])
def test_the_multi_process_service_is_there_if_it_listens(monkeypatch, tmp_path, kind):
    monkeypatch.chdir(tmp_path)  # the name of a socket must be short
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", "pipes")
    assert not machine.has_mps()
    Path("pipes").mkdir()
    with socket.socket(socket.AF_UNIX, kind) as daemon:
        daemon.bind("pipes/control")
        daemon.listen()
        assert machine.has_mps()
    assert Path("pipes/control").is_socket()
    assert not machine.has_mps()  # of a daemon that has died


@pytest.mark.parametrize("folder", ["/dev/null", "a" * 200])
def test_a_folder_that_cannot_be_looked_into_has_no_multi_process_service(monkeypatch, folder):
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", folder)
    assert not machine.has_mps()
