"""Residual backbones (He et al. 2016) under any update rule: CIFAR's, 6n+2 layers, and ImageNet's.

Shapes: B images, C channels, H x W pixels; tensors are (B, C, H, W). A stage keeps one shape.

ResNet is the backbone with gradient descent in the residual reading, the plain network the same in the fixed-point
reading, HB-Net with heavy ball. A stage of n blocks is n steps from x_0, the shortcut of the stage's input; its
first block reads that input itself, since it changes the shape. The history starts anew in each stage.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from lightning_modules.networks.layers import (
    PadShortcut,
    conv1x1,
    conv3x3,
    imagenet_stem,
    initialize,
    norm_relu,
    projection_shortcut,
)
from lightning_modules.networks.methods import check_longest
from lightning_modules.networks.options import choice, count_units, is_integer
from lightning_modules.networks.rules import create_rule
from lightning_modules.networks.updates import Transform, UpdateRule

SHORTCUTS = ("pad", "projection")
EXPANSION = 4
"""A bottleneck's channels over those of its 3x3 convolution."""

IMAGENET_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
"""Blocks of each stage by depth; from 50 layers on they are bottlenecks."""


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


class BottleneckTransform(nn.Module):
    """conv1x1-BN-ReLU-conv3x3-BN-ReLU-conv1x1-BN; the 3x3 convolution has the stride, as torchvision's."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        inner = channels // EXPANSION
        self.conv1 = conv1x1(in_channels, inner)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = conv3x3(inner, inner, stride)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = conv1x1(inner, channels)
        self.bn3 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu_(self.bn1(self.conv1(x)))
        x = F.relu_(self.bn2(self.conv2(x)))
        return self.bn3(self.conv3(x))


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


class PreActivationBottleneck(nn.Module):
    """BN-ReLU before each of conv1x1, conv3x3 and conv1x1; no activation follows the update."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        inner = channels // EXPANSION
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = conv1x1(in_channels, inner)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv2 = conv3x3(inner, inner, stride)
        self.bn3 = nn.BatchNorm2d(inner)
        self.conv3 = conv1x1(inner, channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(F.relu_(self.bn1(x)))
        x = self.conv2(F.relu_(self.bn2(x)))
        return self.conv3(F.relu_(self.bn3(x)))


class Stage(nn.Module):
    """A block for each step of an update rule, all of one shape."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int,
        rule: UpdateRule,
        bottleneck: bool,
        shortcut: str,
        pre_activation: bool,
    ) -> None:
        super().__init__()
        if pre_activation:
            transform = PreActivationBottleneck if bottleneck else PreActivationTransform
        else:
            transform = BottleneckTransform if bottleneck else BasicTransform
        self.transforms = nn.ModuleList(
            transform(in_channels if k == 0 else channels, channels, stride if k == 0 else 1)
            for k in range(rule.steps)
        )
        self.rule = rule
        self.activation: Transform | None = None if pre_activation else F.relu_
        self.shortcut: nn.Module = nn.Identity()
        if self.rule.uses_start and (stride != 1 or in_channels != channels):
            kind = PadShortcut if shortcut == "pad" else projection_shortcut
            self.shortcut = kind(in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        first, *others = self.transforms
        return self.rule(self.shortcut(x), [lambda _: first(x), *others], self.activation)


def check_widths(widths: Sequence[int], stages: int) -> None:
    """Raises:
    ValueError: they are not the channels of so many stages.
    """
    is_sequence = isinstance(widths, Sequence) and not isinstance(widths, str | bytes) and len(widths) > 0
    if not is_sequence or not all(is_integer(width) and width > 0 for width in widths):
        raise ValueError(f"widths must be positive whole numbers, one for each stage, got {widths!r}")
    if len(widths) != stages:
        raise ValueError(f"widths must be {stages} numbers, got {len(widths)}")


class ResidualNetwork(nn.Module):
    """A stem, stages joined by an update rule, global pooling and a linear classifier.

    Args:
        num_classes: outputs.
        stem: the images' first layers.
        channels: what the stem makes.
        widths: channels of each stage; all stages but the first halve the image's side.
        blocks: blocks of each stage.
        rule: the update rule over as many steps as a stage has blocks.
        bottleneck, shortcut, pre_activation: the blocks' form.

    Raises:
        ValueError: an option is unknown.
    """

    def __init__(
        self,
        num_classes: int,
        stem: nn.Sequential,
        channels: int,
        widths: Sequence[int],
        blocks: Sequence[int],
        rule: Callable[[int], UpdateRule],
        bottleneck: bool,
        shortcut: str,
        pre_activation: bool,
    ) -> None:
        super().__init__()
        choice("shortcut", shortcut, SHORTCUTS)
        self.stem = stem
        self.stages = nn.Sequential()
        for width, steps in zip(widths, blocks, strict=True):
            stride = 2 if len(self.stages) else 1
            self.stages.append(Stage(channels, width, stride, rule(steps), bottleneck, shortcut, pre_activation))
            channels = width
        self.norm: nn.Module = nn.Sequential(*norm_relu(channels)) if pre_activation else nn.Identity()
        self.classifier = nn.Linear(channels, num_classes)
        initialize(self)

    def forward(self, images: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> logits (B, num_classes)."""
        x = self.norm(self.stages(self.stem(images)))
        return self.classifier(x.mean((2, 3)))


class CIFARResidualNetwork(ResidualNetwork):
    """3x3 stem and three stages of n blocks.

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
        check_widths(widths, stages=3)
        stem = nn.Sequential(conv3x3(in_channels, widths[0]))
        if not pre_activation:
            stem.extend(norm_relu(widths[0]))
        blocks = [count_units(depth, 6, 2)] * len(widths)
        rule = partial(create_rule, method, reading=reading, **method_options)
        super().__init__(num_classes, stem, widths[0], widths, blocks, rule, False, shortcut, pre_activation)
        check_longest(method_options.get("table", ()), max(blocks))


class ImageNetResidualNetwork(ResidualNetwork):
    """7x7 stem with max pooling and four stages, of bottlenecks from 50 layers on.

    Args:
        num_classes: outputs.
        depth: 18, 34, 50, 101 or 152 layers.
        method, reading, method_options, in_channels: as in ``CIFARResidualNetwork``.
        shortcut: "projection", or "pad" (parameter-free), where a stage changes the shape.
        pre_activation: as there; batch norm and ReLU follow the stem's convolution all the same.
        widths: channels of the four stages' 3x3 convolutions; bottlenecks end in four times as many.

    Raises:
        ValueError: there is no such ``depth``, or an option is unknown.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        *,
        depth: int,
        method: str = "gradient_descent",
        reading: str = "residual",
        shortcut: str = "projection",
        pre_activation: bool = False,
        widths: Sequence[int] = (64, 128, 256, 512),
        in_channels: int = 3,
        **method_options: object,
    ) -> None:
        blocks, bottleneck = IMAGENET_BLOCKS[choice("depth", depth, tuple(IMAGENET_BLOCKS))], depth >= 50
        check_widths(widths, len(blocks))
        stem = imagenet_stem(in_channels, widths[0])
        ends = [EXPANSION * width for width in widths] if bottleneck else widths
        rule = partial(create_rule, method, reading=reading, **method_options)
        super().__init__(num_classes, stem, widths[0], ends, blocks, rule, bottleneck, shortcut, pre_activation)
        check_longest(method_options.get("table", ()), max(blocks))
