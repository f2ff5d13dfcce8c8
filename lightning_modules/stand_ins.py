"""Weights in low precision that stand in for a network's own, so that all are cast at once.

Shapes: images (B, C, H, W).
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn


def those_that_cast(network: nn.Module, images: Tensor, dtype: torch.dtype) -> list[nn.Module]:
    """The convolutions and linear maps that autocast has compute in ``dtype`` whenever a forward pass calls them.

    Those that are not called, whose weights another module reads and may do more with, are left out, and so are
    modules derived from them, and those whose weights a module of another kind owns, too.
    """
    usual = [module for module in network.modules() if type(module) in (nn.Conv2d, nn.Linear)]
    owners = [module for module in network.modules() if type(module) not in (nn.Conv2d, nn.Linear)]
    theirs = {weight for module in owners for weight in module.parameters(recurse=False)}
    casts: dict[nn.Module, bool] = {}

    def look(module: nn.Module, _: Any, output: Tensor) -> None:
        casts[module] = casts.get(module, True) and output.dtype == dtype

    hooks = [module.register_forward_hook(look) for module in usual]
    try:
        with torch.no_grad():
            network(images)
    finally:
        for hook in hooks:
            hook.remove()
    return [m for m, is_cast in casts.items() if is_cast and theirs.isdisjoint(m.parameters(recurse=False))]


class StandIns:
    """The modules' trained weights in another type, which stand in for them for a while."""

    def __init__(self, modules: Sequence[nn.Module], dtype: torch.dtype) -> None:
        self.places = [
            (module, name, weight)
            for module in modules
            for name, weight in module.named_parameters(recurse=False)
            if weight.requires_grad
        ]
        self.copies = {weight: nn.Parameter(weight.detach().to(dtype)) for _, _, weight in self.places}

    def of(self, weight: nn.Parameter) -> nn.Parameter:
        """What stands in for it, or the weight itself."""
        return self.copies.get(weight, weight)

    def refresh(self) -> None:
        """Copy the weights of now, in one kernel for many."""
        if self.copies:
            with torch.no_grad():
                torch._foreach_copy_(list(self.copies.values()), list(self.copies))

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        try:
            for module, name, weight in self.places:
                module._parameters[name] = self.copies[weight]
            yield
        finally:
            for module, name, weight in self.places:
                module._parameters[name] = weight
