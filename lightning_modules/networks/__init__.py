"""Networks derived from optimization methods; torch only."""

from lightning_modules.networks.registry import create_network, list_networks

__all__ = ["create_network", "list_networks"]
