"""Networks derived from optimization methods; torch only."""

from lightning_modules.networks.registry import create_network, list_networks, network_definition

__all__ = ["create_network", "list_networks", "network_definition"]
