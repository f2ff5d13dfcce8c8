"""How much of the difference between images an untrained feedforward network keeps in its last layer."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lightning_modules.networks.feedforward import PIXELS, FeedforwardNetwork

IMAGES = 256
IMAGES_SEED = 1000
"""Not one that a network starts from: its weights would follow from the pixels."""

DIGITS = 3
"""Significant ones, about those that a mean over five seeds has: methods closer than that share a rank."""


def images_left_at_start(create: Callable[[], FeedforwardNetwork], seeds: Sequence[int]) -> float:
    """Mean over the networks' seeds, of the same images of noise; to ``DIGITS``."""
    images = torch.randn(IMAGES, 3, PIXELS, PIXELS, generator=torch.Generator().manual_seed(IMAGES_SEED))
    total = 0.0
    for seed in seeds:
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            total += images_left(create(), images)
    return float(f"{total / len(seeds):.{DIGITS}g}")


def images_left(network: FeedforwardNetwork, images: Tensor) -> float:
    """By how much the last layer differs over images, over what the first one is given: root mean squares.

    Where all images share a minimum and Phi is linear it is the distance that is left of those between images
    (``speed.distances``, of images that start in all directions).

    Args:
        network: as it starts.
        images: (B, C, H, W).
    """
    with torch.no_grad():
        return float((_spread(network.features(images)) / _spread(network.embed(images))).sqrt())


def _spread(states: Tensor) -> Tensor:
    return (states - states.mean(0)).square().mean()
