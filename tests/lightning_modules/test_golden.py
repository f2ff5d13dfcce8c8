"""Training is deterministic on a CPU, and is today what it was when the golden losses were written."""

import pytest

from lightning_modules.networks import list_networks, network_definition, registry
from tests.golden import losses as golden
from tests.golden.losses import FAMILIES, STEPS, check, losses, read, steps


@pytest.mark.parametrize("family", FAMILIES)
def test_first_steps(family):
    """Bit for bit in one installation; another CPU has other kernels, whose rounding grows over the steps."""
    first = losses(family)
    assert losses(family) == first
    assert len(first) == steps(family)
    assert check(family, first, read()) is None


def test_every_network_has_a_definition_and_golden_losses():
    structures = {registry._family(name) for name in list_networks()}
    assert structures == set(registry._DEFINITIONS) == {registry._family(name) for name, _ in FAMILIES.values()}


def test_a_changed_network_asks_for_another_definition(monkeypatch, tmp_path):
    expected, family = read(), "hbnet"
    changed = [1.001 * expected[family][1][0], *expected[family][1][1:]]
    assert check(family, changed, expected).endswith("raise its definition in the registry")
    monkeypatch.setitem(registry._DEFINITIONS, family, 2)
    assert check(family, changed, expected).endswith("call `python -m tests.golden.losses`")
    assert check(family, changed, {family: (2, changed)}) is None


def test_a_changed_default_asks_for_another_definition_where_an_option_is_left_open():
    """Runs that named both options are of the network that they were."""
    residual = {"reading": "residual"}
    assert network_definition("cifar_agdnet40") == network_definition("cifar_agdnet52", residual) == 2
    assert network_definition("cifar_agdnet40", residual | {"coefficients": "learned", "depth": 22}) == 1


def test_golden_losses_are_not_written_over_those_of_another_network(monkeypatch, tmp_path):
    path = tmp_path / "losses.csv"
    path.write_text(golden.PATH.read_text())
    monkeypatch.setattr(golden, "PATH", path)
    monkeypatch.setattr(golden, "losses", lambda family: [1.0] * STEPS)
    with pytest.raises(SystemExit, match="plain is another network than its runs were"):
        golden.main()
    assert path.read_text() == (golden.Path(golden.__file__).with_suffix(".csv")).read_text()
