"""Networks derived from optimization methods; torch only."""

from lightning_modules.networks.registry import (
    create_network,
    list_networks,
    network_definition,
    network_purpose,
    no_weight_decay,
)
from lightning_modules.networks.torchvision_weights import load_torchvision

__all__ = [
    "create_network",
    "list_networks",
    "load_torchvision",
    "network_definition",
    "network_purpose",
    "no_weight_decay",
]
