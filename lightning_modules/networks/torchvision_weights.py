"""torchvision's weights in our ImageNet networks.

The architectures are the same, so weights carry over; ``KEYS`` maps their names.
"""

import re
from collections.abc import Callable, Mapping

from torch import Tensor, nn

from lightning_modules.networks.registry import no_weight_decay

KEYS: tuple[tuple[str, Callable[..., str]], ...] = (
    (r"conv1\.", lambda: "stem.0."),
    (r"bn1\.", lambda: "stem.1."),
    (r"layer(\d)\.0\.downsample\.", lambda i: f"stages.{int(i) - 1}.shortcut."),
    (r"layer(\d)\.(\d+)\.", lambda i, k: f"stages.{int(i) - 1}.transforms.{k}."),
    (r"fc\.", lambda: "classifier."),
    (r"features\.conv0\.", lambda: "stem.0."),
    (r"features\.norm0\.", lambda: "stem.1."),
    (
        r"features\.denseblock(\d)\.denselayer(\d+)\.(norm|conv)\.?(\d)\.",
        lambda i, k, kind, n: f"blocks.{2 * int(i) - 2}.layers.{int(k) - 1}.{kind}{n}.",
    ),
    (r"features\.transition(\d)\.", lambda i: f"blocks.{2 * int(i) - 1}."),
    (r"features\.norm5\.", lambda: "norm."),
    (r"classifier\.", lambda: "classifier."),
)
"""How a key of torchvision's ResNets and DenseNets begins, and how ours does.

Files of pretrained DenseNets say ``norm.1`` where today's models say ``norm1``.
"""


def our_key(key: str) -> str:
    """``stages.2.transforms.0.conv1.weight`` for ``layer3.0.conv1.weight``.

    Raises:
        ValueError: no key of torchvision's ResNets or DenseNets begins like this.
    """
    for pattern, begin in KEYS:
        if match := re.match(pattern, key):
            return begin(*match.groups()) + key[match.end() :]
    raise ValueError(f"{key!r} is not a key of torchvision's ResNets or DenseNets")


HEAD = "classifier."


def load_torchvision(network: nn.Module, state_dict: Mapping[str, Tensor], head: bool = True) -> None:
    """Load the weights of torchvision's model of the same architecture, all of them or none.

    HB-Net takes those of the ResNet, AGD-Net those of the DenseNet, of its depth; their coefficients, which
    torchvision does not have, stay as they are.

    Args:
        network: one of ``imagenet_*``.
        state_dict: such as ``torchvision.models.ResNet34_Weights.IMAGENET1K_V1.get_state_dict()``.
        head: False leaves the classifier as it starts, for other classes.

    Raises:
        ValueError: the weights are of another architecture, or for another number of classes.
    """
    own = network.state_dict()
    names = {our_key(key): key for key in state_dict}
    names = {name: key for name, key in names.items() if head or not name.startswith(HEAD)}
    for name, key in names.items():
        if name not in own:
            raise ValueError(f"the weights are of another architecture: this network has no place for {key}")
        theirs, ours = tuple(state_dict[key].shape), tuple(own[name].shape)
        if theirs != ours:
            shapes = f"{key} has shape {theirs}, this network's {name} {ours}"
            hint = "; head=False leaves it as it starts" if name.startswith(HEAD) else ""
            raise ValueError(f"the weights do not fit: {shapes}{hint}")
    kept = no_weight_decay(network) | {name for name in own if name.startswith(HEAD) and not head}
    for name in own:
        if not (name in names or name in kept or name.endswith("num_batches_tracked")):
            raise ValueError(f"the weights are of another architecture: they have nothing for {name}")
    network.load_state_dict({name: state_dict[key] for name, key in names.items()}, strict=False)
