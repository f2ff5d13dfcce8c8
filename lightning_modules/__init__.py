"""Networks and the LightningModule that trains them. Attributes load on first use, so the import is cheap."""

from importlib import import_module
from typing import Any

_HOME = {
    "LitClassifier": "lightning_modules.classifier",
    "create_network": "lightning_modules.networks",
    "list_networks": "lightning_modules.networks",
    "load_torchvision": "lightning_modules.networks",
    "no_weight_decay": "lightning_modules.networks",
}
__all__ = ["LitClassifier", "create_network", "list_networks", "load_torchvision", "no_weight_decay"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
