"""Residual backbone for CIFAR, 6n+2 layers (He et al. 2016), under any update rule.

Shapes: B images, C channels, H x W pixels; tensors are (B, C, H, W). A stage keeps one shape.

ResNet is this backbone with gradient descent in the residual reading, the plain network the same in the fixed-point
reading, HB-Net with heavy ball. A stage of n blocks is n steps from x_0, the shortcut of the stage's input; its
first block reads that input itself, since it changes the shape. The history starts anew in each stage.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from lightning_modules.networks.layers import PadShortcut, conv3x3, initialize, projection_shortcut
from lightning_modules.networks.rules import create_rule
from lightning_modules.networks.updates import Transform, choice

SHORTCUTS = ("pad", "projection")


class BasicTransform(nn.Module):
    """conv-BN-ReLU-conv-BN; the block's last ReLU follows the update."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(in_channels, channels, stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv3x3(channels, channels)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu_(self.bn1(self.conv1(x)))
        return self.bn2(self.conv2(x))


class PreActivationTransform(nn.Module):
    """BN-ReLU-conv-BN-ReLU-conv (He et al. 2016b); no activation follows the update."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = conv3x3(in_channels, channels, stride)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = conv3x3(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(F.relu_(self.bn1(x)))
        return self.conv2(F.relu_(self.bn2(x)))


class Stage(nn.Module):
    """n blocks of one shape, joined by an update rule."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        blocks: int,
        stride: int,
        shortcut: str,
        pre_activation: bool,
        method: str,
        reading: str,
        **method_options: object,
    ) -> None:
        super().__init__()
        transform = PreActivationTransform if pre_activation else BasicTransform
        self.transforms = nn.ModuleList(
            transform(in_channels if k == 0 else channels, channels, stride if k == 0 else 1) for k in range(blocks)
        )
        self.rule = create_rule(method, blocks, reading, **method_options)
        self.activation: Transform | None = None if pre_activation else F.relu_
        self.shortcut: nn.Module = nn.Identity()
        if self.rule.uses_start and (stride != 1 or in_channels != channels):
            kind = PadShortcut if shortcut == "pad" else projection_shortcut
            self.shortcut = kind(in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        first, *others = self.transforms
        return self.rule(self.shortcut(x), [lambda _: first(x), *others], self.activation)


class CIFARResidualNetwork(nn.Module):
    """3x3 stem, three stages of n blocks, global pooling and a linear classifier.

    Args:
        num_classes: outputs.
        depth: 6n + 2 layers.
        method, reading, method_options: the update rule (``rules.METHODS``), e.g. ``coefficients="fixed"``.
        shortcut: "pad" (parameter-free) or "projection", where a stage changes the shape.
        pre_activation: BN and ReLU before each convolution instead of after it and after the sum.
        widths: channels of the three stages.
        in_channels: colours of the images.

    Raises:
        ValueError: ``depth`` is not 6n + 2, or an option is unknown.
    """

    def __init__(
        self,
        num_classes: int = 10,
        *,
        depth: int,
        method: str = "gradient_descent",
        reading: str = "residual",
        shortcut: str = "pad",
        pre_activation: bool = False,
        widths: Sequence[int] = (16, 32, 64),
        in_channels: int = 3,
        **method_options: object,
    ) -> None:
        super().__init__()
        choice("shortcut", shortcut, SHORTCUTS)
        blocks = blocks_per_stage(depth)
        self.stem = nn.Sequential(conv3x3(in_channels, widths[0]))
        if not pre_activation:
            self.stem.extend([nn.BatchNorm2d(widths[0]), nn.ReLU(inplace=True)])
        stages, channels = [], widths[0]
        for i, width in enumerate(widths):
            stride = 1 if i == 0 else 2
            stages.append(
                Stage(channels, width, blocks, stride, shortcut, pre_activation, method, reading, **method_options)
            )
            channels = width
        self.stages = nn.Sequential(*stages)
        self.norm: nn.Module = nn.Identity()
        if pre_activation:
            self.norm = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(inplace=True))
        self.classifier = nn.Linear(channels, num_classes)
        initialize(self)

    def forward(self, images: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> logits (B, num_classes)."""
        x = self.norm(self.stages(self.stem(images)))
        return self.classifier(x.mean((2, 3)))


def blocks_per_stage(depth: int) -> int:
    """n of depth = 6n + 2.

    Raises:
        ValueError: names the nearest valid depths.
    """
    n, rest = divmod(depth - 2, 6)
    if rest or n < 1:
        below = max(6 * n + 2, 8)
        raise ValueError(f"depth {depth} is not 6n + 2; the nearest are {below} and {below + 6}")
    return n
