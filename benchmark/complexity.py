"""Cost of a network: parameters and multiply-adds of one forward pass."""

from collections.abc import Sequence

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmark.specs import NetworkSpec
from lightning_modules.networks import create_network

_counted: dict[str, tuple[int, int]] = {}


def complexity(network: NetworkSpec, num_classes: int, image_shape: Sequence[int]) -> tuple[int, int]:
    """Parameters and multiply-adds for one image, counted on the meta device; each network once in a process.

    Convolutions, matrix products and the classifier count (``torch.utils.flop_counter``); additions, batch norm and
    activations do not.

    Args:
        image_shape: (C, H, W).
    """
    key = repr((network, num_classes, tuple(image_shape)))
    if key not in _counted:
        _counted[key] = _count(network, num_classes, image_shape)
    return _counted[key]


def _count(network: NetworkSpec, num_classes: int, image_shape: Sequence[int]) -> tuple[int, int]:
    with torch.device("meta"):
        model = create_network(network.name, num_classes, in_channels=image_shape[0], **network.options).eval()
        with FlopCounterMode(display=False) as counter:
            model(torch.empty(1, *image_shape))
    return sum(p.numel() for p in model.parameters()), counter.get_total_flops() // 2
