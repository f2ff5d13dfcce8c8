"""Feedforward networks on small images, under any update rule: the paper's own setting, trained.

Shapes: B images, C channels, n = width; images are (B, C, H, W), the state of a layer is (B, n).

x_0 = u is a linear map of the image, averaged down to 8 x 8 pixels; a layer's transform is T(x) = Phi(W x) with one
symmetric W for all layers, or one for each (``docs/theory.md``, section 1). Then f, and so its minimum, is the same
for every image: what a deep network tells of its image is what the method has not yet forgotten. With T(x) =
Phi(W x + u) the image is a part of f, whose constants stay, and the minimum is the image's own.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_modules.networks.methods import check_longest
from lightning_modules.networks.options import choice
from lightning_modules.networks.rules import create_rule
from lightning_modules.networks.updates import Transform

PIXELS = 8
WEIGHTS = ("shared", "free")
INPUTS = ("start", "every_layer")
ACTIVATIONS = {"tanh": torch.tanh, "sigmoid": torch.sigmoid, "softplus": F.softplus, "relu": torch.relu}
SPREAD = 10
WIDTH = 64


def start_eigenvalues(norm: float, width: int = WIDTH) -> Tensor:
    """Of each W at the start, (width,): from a tenth of ``norm`` to ``norm``, evenly."""
    return torch.linspace(norm / SPREAD, norm, width)


class SymmetricLinear(nn.Linear):
    """x -> (A + A^T) / 2 x; starts positive definite, with ``start_eigenvalues``."""

    def __init__(self, width: int, norm: float) -> None:
        super().__init__(width, width, bias=False)
        if self.weight.device.type != "meta":
            q, _ = torch.linalg.qr(torch.randn(width, width))
            with torch.no_grad():
                self.weight.copy_(q * start_eigenvalues(norm, width) @ q.T)

    def forward(self, x: Tensor) -> Tensor:
        """(B, n) -> (B, n)."""
        return F.linear(x, (self.weight + self.weight.T) / 2)


class FeedforwardNetwork(nn.Module):
    """A linear map, ``depth`` layers of one width joined by an update rule, and a linear classifier.

    Args:
        num_classes: outputs.
        depth: layers.
        width: n.
        method, reading, method_options: the update rule (``rules.METHODS``); the theory's reading is the default.
        activation: Phi: tanh, sigmoid, softplus or relu.
        weight: "shared" (one W, as in theory) or "free" (one for each layer).
        norm: |W| at the start, in (0, 1): f then has mu = 1 - norm where Phi's slope is at most 1.
        image: where it enters: "start" (x_0 alone, as in theory) or "every_layer" (T(x) = Phi(W x + u) too).
        in_channels: colours of the images.

    Raises:
        ValueError: an unknown option or option value, or a depth or width below 1.
    """

    def __init__(
        self,
        num_classes: int = 10,
        *,
        depth: int = 20,
        width: int = WIDTH,
        method: str = "gradient_descent",
        reading: str = "fixed_point",
        activation: str = "tanh",
        weight: str = "shared",
        norm: float = 0.9,
        image: str = "start",
        in_channels: int = 3,
        **method_options: object,
    ) -> None:
        super().__init__()
        if depth < 1 or width < 1:
            raise ValueError(f"depth and width must be at least 1, got {depth} and {width}")
        self.activation = ACTIVATIONS[choice("activation", activation, tuple(ACTIVATIONS))]
        if not 0 < norm < 1:
            raise ValueError(f"norm must be in (0, 1), got {norm}: f is strongly convex only there")
        self.depth = depth
        self.image = choice("image", image, INPUTS)
        self.embedding = nn.Linear(in_channels * PIXELS**2, width)
        count = 1 if choice("weight", weight, WEIGHTS) == "shared" else depth
        self.weights = nn.ModuleList(SymmetricLinear(width, norm) for _ in range(count))
        self.rule = create_rule(method, depth, reading, **method_options)
        check_longest(method_options.get("table", ()), depth)
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> logits (B, num_classes)."""
        return self.classifier(self.features(images))

    def features(self, images: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> what the classifier reads, (B, n)."""
        u = self.embed(images)
        return self.rule(u, [self._layer(k, u) for k in range(self.depth)])

    def embed(self, images: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> u, (B, n)."""
        return self.embedding(F.adaptive_avg_pool2d(images, PIXELS).flatten(1))

    def _layer(self, k: int, u: Tensor) -> Transform:
        """T_k."""
        weight = self.weights[k if len(self.weights) > 1 else 0]
        if self.image == "start":
            return lambda x: self.activation(weight(x))
        return lambda x: self.activation(weight(x) + u)
