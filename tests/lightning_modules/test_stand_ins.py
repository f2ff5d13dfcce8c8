"""Only weights that autocast would cast as they are have stand-ins."""

import torch
import torch.nn.functional as F
from torch import nn

from lightning_modules.stand_ins import StandIns, those_that_cast


def test_weights_that_are_read_otherwise_keep_their_precision():
    """Derived modules, weights that another module reads or owns, frozen ones, those without autocast once."""

    class Scaled(nn.Linear):
        def forward(self, x):
            return F.linear(x, self.weight.exp())

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.usual, self.read, self.frozen, self.tied, self.exact = (nn.Linear(2, 2) for _ in range(5))
            self.derived = Scaled(2, 2)
            self.own = self.tied.weight
            self.frozen.requires_grad_(False)

        def forward(self, x):
            x = self.derived(self.tied(self.frozen(self.usual(x)))) + self.own
            with torch.autocast("cpu", enabled=False):
                x = self.exact(x.float())
            return F.linear(self.exact(x), self.read.weight * 2)

    network = Network()
    with torch.autocast("cpu", torch.bfloat16):
        modules = those_that_cast(network, torch.randn(2, 2), torch.bfloat16)
    assert list(StandIns(modules, torch.bfloat16).copies) == list(network.usual.parameters())
    assert not any(module._forward_hooks for module in network.modules())
