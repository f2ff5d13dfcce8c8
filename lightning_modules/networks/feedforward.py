"""Feedforward networks on small images, under any update rule: the paper's own setting, trained.

Shapes: B images, C channels, n = width; images are (B, C, H, W), the state of a layer is (B, n).

x_0 is a linear map of the image, averaged down to 8 x 8 pixels; a layer's transform is T(x) = Phi(W x) with one
symmetric W for all layers, or one for each (``docs/theory.md``, section 1).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_modules.networks.rules import create_rule
from lightning_modules.networks.updates import Transform, choice

PIXELS = 8
WEIGHTS = ("shared", "free")
ACTIVATIONS = {"tanh": torch.tanh, "sigmoid": torch.sigmoid, "softplus": F.softplus, "relu": torch.relu}
LARGEST_EIGENVALUE = 0.9


class SymmetricLinear(nn.Linear):
    """x -> (A + A^T) / 2 x, which starts positive definite with eigenvalues from 0.09 to 0.9."""

    def __init__(self, width: int) -> None:
        super().__init__(width, width, bias=False)
        if self.weight.device.type != "meta":
            q, _ = torch.linalg.qr(torch.randn(width, width))
            eigenvalues = torch.linspace(LARGEST_EIGENVALUE / 10, LARGEST_EIGENVALUE, width)
            with torch.no_grad():
                self.weight.copy_(q * eigenvalues @ q.T)

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
        in_channels: colours of the images.

    Raises:
        ValueError: an unknown option or option value, or a depth or width below 1.
    """

    def __init__(
        self,
        num_classes: int = 10,
        *,
        depth: int = 20,
        width: int = 64,
        method: str = "gradient_descent",
        reading: str = "fixed_point",
        activation: str = "tanh",
        weight: str = "shared",
        in_channels: int = 3,
        **method_options: object,
    ) -> None:
        super().__init__()
        if depth < 1 or width < 1:
            raise ValueError(f"depth and width must be at least 1, got {depth} and {width}")
        self.activation = ACTIVATIONS[choice("activation", activation, tuple(ACTIVATIONS))]
        self.depth = depth
        self.embedding = nn.Linear(in_channels * PIXELS**2, width)
        count = 1 if choice("weight", weight, WEIGHTS) == "shared" else depth
        self.weights = nn.ModuleList(SymmetricLinear(width) for _ in range(count))
        self.rule = create_rule(method, depth, reading, **method_options)
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> logits (B, num_classes)."""
        x = self.embedding(F.adaptive_avg_pool2d(images, PIXELS).flatten(1))
        return self.classifier(self.rule(x, [self._layer(k) for k in range(self.depth)]))

    def _layer(self, k: int) -> Transform:
        """T_k."""
        weight = self.weights[k if len(self.weights) > 1 else 0]
        return lambda x: self.activation(weight(x))
