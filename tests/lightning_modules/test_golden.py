"""Training is deterministic on a CPU, and is today what it was when the golden losses were written."""

import pytest

from tests.golden.losses import FAMILIES, STEPS, losses, read


@pytest.mark.parametrize("family", FAMILIES)
def test_twenty_steps(family):
    """Bit for bit in one installation; another CPU has other kernels, whose rounding grows over the steps."""
    first = losses(family)
    assert losses(family) == first
    assert len(first) == STEPS
    assert first == pytest.approx(read()[family], rel=0.01)
