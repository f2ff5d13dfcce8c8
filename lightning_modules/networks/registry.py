"""Networks by name. ``create_network("cifar_hbnet56", num_classes=10, reading="fixed_point")``.

ResNet is gradient descent in the residual reading, the plain network gradient descent in the fixed-point reading,
HB-Net heavy ball, AGD-ResNet Nesterov with lookahead; DenseNet and AGD-Net share the dense backbone, and
``feedforward`` is the theory's own network. Overrides are the options of the backbone (``CIFARResidualNetwork``,
``CIFARDenseNetwork``, their ``ImageNet...`` counterparts, ``FeedforwardNetwork``), ``depth`` included.
"""

import difflib
import inspect
from collections.abc import Collection
from functools import partial
from typing import NamedTuple

from torch import nn

from lightning_modules.networks.dense import CIFARDenseNetwork, ImageNetDenseNetwork
from lightning_modules.networks.dense_blocks import MultiStepDenseBlock
from lightning_modules.networks.feedforward import FeedforwardNetwork
from lightning_modules.networks.options import UnknownOptionError, check_values, is_integer, plain
from lightning_modules.networks.residual import CIFARResidualNetwork, ImageNetResidualNetwork
from lightning_modules.networks.updates import UpdateRule

_STRUCTURES = {
    "plain": {"method": "gradient_descent", "reading": "fixed_point"},
    "resnet": {"method": "gradient_descent", "reading": "residual"},
    "hbnet": {"method": "heavy_ball", "reading": "residual"},
    "agdresnet": {"method": "nesterov", "reading": "residual"},
}
_DEPTHS = {"plain": (20, 56, 110)}
_ALL_DEPTHS = (20, 32, 44, 56, 110)
_AGD = {"method": "nesterov_multi_step"}
_CIFAR_AGD = {**_AGD, "reading": "fixed_point", "coefficients": "fixed"}
"""The form of the lowest error on held-out training images (docs/structures.md)."""
_IMAGENET_AGD = {**_AGD, "reading": "residual", "coefficients": "learned"}
"""In blocks of 24 layers the fixed-point form's gradients explode (docs/structures.md)."""

_BUILDERS: dict[str, partial[nn.Module]] = (
    {
        f"cifar_{structure}{depth}": partial(CIFARResidualNetwork, depth=depth, **options)
        for structure, options in _STRUCTURES.items()
        for depth in _DEPTHS.get(structure, _ALL_DEPTHS)
    }
    | {
        f"imagenet_{structure}{depth}": partial(ImageNetResidualNetwork, depth=depth, **_STRUCTURES[structure])
        for structure in ("resnet", "hbnet")
        for depth in (18, 34, 50)
    }
    | {
        "cifar_densenet40": partial(CIFARDenseNetwork, depth=40),
        "cifar_densenet52": partial(CIFARDenseNetwork, depth=52),
        "cifar_densenet_bc100": partial(CIFARDenseNetwork, depth=100, bottleneck=True, compression=0.5),
        "cifar_agdnet40": partial(CIFARDenseNetwork, depth=40, **_CIFAR_AGD),
        "cifar_agdnet52": partial(CIFARDenseNetwork, depth=52, **_CIFAR_AGD),
        "imagenet_densenet121": partial(ImageNetDenseNetwork, depth=121),
        "imagenet_agdnet121": partial(ImageNetDenseNetwork, depth=121, **_IMAGENET_AGD),
        "feedforward": partial(FeedforwardNetwork),
    }
)


_DESCRIPTIONS = {
    "plain": "gradient descent, fixed-point reading: layers in a chain",
    "resnet": "gradient descent, residual reading: ResNet",
    "hbnet": "heavy ball: ResNet with momentum, one learned beta a block",
    "agdresnet": "Nesterov's method: ResNet whose blocks look ahead",
    "densenet": "DenseNet: every layer feeds every later one",
    "agdnet": "Nesterov's method in its multi-step form, on DenseNet's layers",
    "feedforward": "theory's own network: T(x) = Phi(W x) between two linear maps",
}

_DEFINITIONS = {
    "plain": 1,
    "resnet": 1,
    "hbnet": 1,
    "agdresnet": 1,
    "densenet": 1,
    "agdnet": 1,
    "imagenet_resnet": 1,
    "imagenet_hbnet": 1,
    "imagenet_densenet": 1,
    "imagenet_agdnet": 1,
    "feedforward": 1,
}
"""Raised by one when the code makes another network, or another start, of the same name and options.

The number is part of a run's id, so what was measured of the old network is not taken for the new one. The golden
losses (``tests/golden/losses.py``) notice a change and ask for it.
"""

_CHANGED_DEFAULTS = {"agdnet": ("reading", "coefficients")}
"""Options that have another default than before: a network that leaves one of them open is another, too."""


def list_networks() -> list[str]:
    """All registered names, sorted."""
    return sorted(_BUILDERS)


def describe_network(name: str) -> str:
    """One line on the structure of a registered network."""
    return _DESCRIPTIONS[_family(name).removeprefix("imagenet_")]


def network_definition(name: str, options: Collection[str] = ()) -> int:
    """Which definition the code has of a network with these options: 1, or more if it was changed.

    1 for unknown names.
    """
    family = _family(name)
    left_open = any(option not in options for option in _CHANGED_DEFAULTS.get(family, ()))
    return _DEFINITIONS.get(family, 1) + left_open


class Purpose(NamedTuple):
    """What a network is made for: pixels of an image's side, and classes."""

    image_size: int
    num_classes: int


def network_purpose(name: str) -> Purpose:
    """224 pixels and 1000 classes for ``imagenet_*``, else 32 and 10.

    Raises:
        ValueError: it is no name.
    """
    check_name(name)
    return Purpose(224, 1000) if name.startswith("imagenet_") else Purpose(32, 10)


def check_name(name: object) -> None:
    """Raises:
    ValueError: it is no text, such as a network itself.
    """
    if not isinstance(name, str):
        raise ValueError(f"a network is given by its name, one of list_networks(), got {type(name).__name__}")


def _family(name: str) -> str:
    """``cifar_densenet_bc100`` is a ``densenet``, ``imagenet_resnet34`` an ``imagenet_resnet``."""
    check_name(name)
    return name.removeprefix("cifar_").rstrip("0123456789").removesuffix("_bc")


def create_network(name: str, num_classes: int | None = None, **overrides: object) -> nn.Module:
    """Build a registered network, randomly initialised from torch's global generator.

    Args:
        name: one of ``list_networks()``.
        num_classes: outputs; by default 1000 for ``imagenet_*`` and 10 for the others.
        overrides: options of the backbone, e.g. ``depth=26`` or ``coefficients="fixed"``.

    Raises:
        ValueError: unknown name (the closest are given), option or option value.
    """
    check_name(name)
    if name not in _BUILDERS:
        near = difflib.get_close_matches(name, _BUILDERS, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"valid: {', '.join(list_networks())}"
        raise ValueError(f"unknown network {name!r}; {hint}")
    overrides = plain(overrides)
    check_values(_own_options(name), overrides)
    if num_classes is None:
        num_classes = network_purpose(name).num_classes
    if not is_integer(num_classes) or num_classes < 1:
        raise ValueError(f"num_classes must be a positive whole number, got {num_classes!r}")
    try:
        return _BUILDERS[name](num_classes, **overrides)
    except UnknownOptionError as error:
        raise UnknownOptionError(f"{error}; the network's: {', '.join(sorted(_own_options(name)))}") from None


def _own_options(name: str) -> dict[str, inspect.Parameter]:
    """Those of the backbone; what it takes beyond them are its method's."""
    parameters = inspect.signature(_BUILDERS[name].func).parameters
    return {option: p for option, p in parameters.items() if p.kind is p.KEYWORD_ONLY}


def no_weight_decay(network: nn.Module) -> set[str]:
    """Names of the parameters that weight decay leaves alone: the learned coefficients of methods.

    Those of update rules and of dense blocks, in whatever module they are.
    """
    coefficients = set()
    for prefix, module in network.named_modules():
        if isinstance(module, UpdateRule):
            coefficients.update(name for name, _ in module.named_parameters(prefix))
        elif isinstance(module, MultiStepDenseBlock) and module.learned:
            table = f"{prefix}.table".lstrip(".")
            coefficients.update(name for name, _ in module.table.named_parameters(table))
    return coefficients
