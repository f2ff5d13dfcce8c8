"""Energy is what the device's own counter says, or nothing."""

from types import SimpleNamespace

import pytest
import torch

from benchmark import energy
from benchmark.energy import EnergyMeter


@pytest.fixture
def sockets(monkeypatch, tmp_path):
    """Two sockets, and a part of one that must not count twice."""
    monkeypatch.setattr(energy, "POWERCAP", tmp_path)
    names = ("intel-rapl:0", "intel-rapl:1", "intel-rapl:0:0")

    def write(*microjoules):
        for name, value in zip(names, microjoules, strict=True):
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / "energy_uj").write_text(f"{value}\n")

    return write


def test_a_cpu_adds_its_sockets(sockets):
    meter = EnergyMeter("cpu")
    sockets(1_000_000, 5_000_000, 400_000)
    meter.start()
    sockets(3_500_000, 5_500_000, 900_000)
    assert meter.joules == pytest.approx(3.0)


def test_a_counter_that_came_round_or_is_missing_says_nothing(sockets):
    meter = EnergyMeter("cpu")
    meter.start()
    assert meter.joules is None
    sockets(9_000_000, 0, 0)
    meter.start()
    sockets(1_000_000, 0, 0)
    assert meter.joules is None


def test_a_gpu_is_asked_by_its_own_identity(monkeypatch):
    readings = iter([2_000, 9_500])
    nvml = SimpleNamespace(
        nvmlDeviceGetHandleByUUID=lambda name: name,
        nvmlDeviceGetTotalEnergyConsumption=lambda handle: next(readings) if handle == "GPU-abc" else 0,
    )
    monkeypatch.setattr(energy, "_nvml", lambda: nvml)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="abc"))
    meter = EnergyMeter("cuda")
    meter.start()
    assert meter.joules == pytest.approx(7.5)


def test_a_gpu_without_the_library_says_nothing(monkeypatch):
    def missing():
        raise ModuleNotFoundError("pynvml")

    monkeypatch.setattr(energy, "_nvml", missing)
    assert energy.read_joules("cuda") is None
