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
            (tmp_path / name / "max_energy_range_uj").write_text("10000000\n")

    return write


def test_a_cpu_adds_its_sockets(sockets):
    meter = EnergyMeter("cpu")
    sockets(1_000_000, 5_000_000, 400_000)
    meter.start()
    sockets(3_500_000, 5_500_000, 900_000)
    assert meter.joules == pytest.approx(3.0)


def test_a_counter_that_comes_round_goes_on(sockets, monkeypatch):
    """One socket does so twice, seen in between, the other once."""
    monkeypatch.setattr(energy, "INTERVAL", 0.0)
    meter = EnergyMeter("cpu")
    sockets(9_000_000, 1_000_000, 0)
    meter.start()
    for first, second in ((5_000_000, 4_000_000), (1_000_000, 8_000_000), (9_500_000, 2_000_000)):
        sockets(first, second, 0)
        meter.look()
    assert meter.joules == pytest.approx(6 + 6 + 8.5 + 3 + 4 + 4)


def test_counters_are_not_read_at_every_step(sockets, monkeypatch):
    sockets(0, 0, 0)
    meter = EnergyMeter("cpu")
    meter.start()
    monkeypatch.setattr(energy, "read_counters", lambda device: pytest.fail("read"))
    meter.look()


def test_counters_that_are_missing_say_nothing(sockets):
    meter = EnergyMeter("cpu")
    meter.start()
    assert meter.joules is None
    sockets(9_000_000, 0, 0)
    assert meter.joules is None  # not known from the start
    meter.start()
    assert meter.joules == 0


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


def test_a_gpus_counter_that_falls_says_nothing(monkeypatch):
    """Its driver was loaded anew; no counter of a GPU comes round."""
    readings = iter([[energy.Counter(5.0)], [energy.Counter(1.0)]])
    monkeypatch.setattr(energy, "read_counters", lambda device: next(readings))
    meter = EnergyMeter("cuda")
    meter.start()
    assert meter.joules is None


def test_a_gpu_without_the_library_says_nothing(monkeypatch):
    def missing():
        raise ModuleNotFoundError("pynvml")

    monkeypatch.setattr(energy, "_nvml", missing)
    meter = EnergyMeter("cuda")
    meter.start()
    assert meter.joules is None
