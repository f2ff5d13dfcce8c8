"""How much of what tells images apart a feedforward network has left in its last layer, before it is trained."""

import torch
from torch import Tensor

from lightning_modules.networks.feedforward import FeedforwardNetwork


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
