"""What tests of networks share."""

import pytest
import torch


@pytest.fixture
def float64():
    """Numbers are float64 unless they say otherwise."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
