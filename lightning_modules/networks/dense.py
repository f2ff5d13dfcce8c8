"""Dense backbones for CIFAR and ImageNet (Huang et al. 2017): ``dense_blocks`` between a stem and a classifier.

Shapes: B images, C channels, H x W pixels, k growth rate; tensors are (B, C, H, W).
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from lightning_modules.networks.dense_blocks import DenseBlock, MultiStepDenseBlock
from lightning_modules.networks.layers import conv1x1, conv3x3, imagenet_stem, initialize
from lightning_modules.networks.options import accept_options, choice, count_units

BLOCK_ARGUMENTS = {"in_channels", "layers", "growth", "bottleneck", "dropout"}
IMAGENET_LAYERS = {121: (6, 12, 24, 16), 161: (6, 12, 36, 24), 169: (6, 12, 32, 32), 201: (6, 12, 48, 32)}
"""Layers of each block by the network's depth."""

DENSE_METHODS = {"dense": DenseBlock, "nesterov_multi_step": MultiStepDenseBlock}


class Transition(nn.Module):
    """BN-ReLU-conv1x1-dropout-pool between blocks."""

    def __init__(self, in_channels: int, out_channels: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(in_channels)
        self.conv = conv1x1(in_channels, out_channels)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        x = F.dropout(self.conv(F.relu_(self.norm(x))), self.dropout, self.training)
        return F.avg_pool2d(x, 2)


class DenseNetwork(nn.Module):
    """A stem, dense blocks with transitions between them, global pooling and a linear classifier.

    Args:
        num_classes: outputs.
        stem: the images' first layers.
        channels: what the stem makes.
        layers: layers of each block.
        growth: k, channels that a layer adds.
        create_block: a block from its input's channels and its number of layers.
        compression: share of the channels that a transition keeps.
        dropout: after a transition's convolution.
    """

    def __init__(
        self,
        num_classes: int,
        stem: nn.Module,
        channels: int,
        layers: Sequence[int],
        growth: int,
        create_block: Callable[[int, int], DenseBlock],
        compression: float,
        dropout: float,
    ) -> None:
        super().__init__()
        self.stem = stem
        self.blocks = nn.Sequential()
        for count in layers:
            if len(self.blocks):
                kept = int(channels * compression)
                self.blocks.append(Transition(channels, kept, dropout))
                channels = kept
            self.blocks.append(create_block(channels, count))
            channels += count * growth
        self.norm = nn.BatchNorm2d(channels)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> logits (B, num_classes)."""
        x = F.relu_(self.norm(self.blocks(self.stem(images))))
        return self.classifier(x.mean((2, 3)))


class CIFARDenseNetwork(DenseNetwork):
    """3x3 stem and three dense blocks of as many layers.

    Args:
        num_classes: outputs.
        depth: L = 3n + 4 layers, or 6n + 4 with bottlenecks.
        growth: k, channels that a layer adds.
        method: "dense" (DenseNet) or "nesterov_multi_step" (AGD-Net).
        bottleneck, compression: DenseNet-BC is True and 0.5, with a stem of 2k channels instead of 16.
        dropout: after each convolution but the first.
        in_channels: colours of the images.
        method_options: of the block: ``memory_efficient``; ``reading``, ``coefficients``, ``input_factor`` and
            ``linear_terms`` of ``MultiStepDenseBlock``.

    Raises:
        ValueError: ``depth`` does not fit, or an option is unknown.
    """

    def __init__(
        self,
        num_classes: int = 10,
        *,
        depth: int,
        growth: int = 12,
        method: str = "dense",
        bottleneck: bool = False,
        compression: float = 1.0,
        dropout: float = 0.0,
        in_channels: int = 3,
        **method_options: object,
    ) -> None:
        block = block_builder(method, growth, bottleneck, dropout, method_options)
        layers = [count_units(depth, 6 if bottleneck else 3, 4)] * 3
        channels = 2 * growth if bottleneck else 16
        stem = conv3x3(in_channels, channels)
        super().__init__(num_classes, stem, channels, layers, growth, block, compression, dropout)
        initialize(self)


class ImageNetDenseNetwork(DenseNetwork):
    """7x7 stem of 2k channels with max pooling and four dense blocks with bottlenecks: DenseNet-BC.

    Args:
        num_classes: outputs.
        depth: 121, 169 or 201 layers, or 161 (of growth 48).
        growth, method, compression, dropout, in_channels, method_options: as in ``CIFARDenseNetwork``.

    Raises:
        ValueError: there is no such ``depth``, or an option is unknown.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        *,
        depth: int,
        growth: int = 32,
        method: str = "dense",
        compression: float = 0.5,
        dropout: float = 0.0,
        in_channels: int = 3,
        **method_options: object,
    ) -> None:
        block = block_builder(method, growth, True, dropout, method_options)
        layers = IMAGENET_LAYERS[choice("depth", depth, tuple(IMAGENET_LAYERS))]
        stem = imagenet_stem(in_channels, 2 * growth)
        super().__init__(num_classes, stem, 2 * growth, layers, growth, block, compression, dropout)
        initialize(self, "fan_in")


def block_builder(
    method: str, growth: int, bottleneck: bool, dropout: float, options: Mapping[str, object]
) -> Callable[[int, int], DenseBlock]:
    """The method's block, as a function of its input's channels and its number of layers.

    Raises:
        ValueError: unknown method or option (the valid ones are named), or nothing grows.
    """
    if growth < 1:
        raise ValueError(f"growth must be at least 1, got {growth}")
    block = DENSE_METHODS[choice("method", method, tuple(DENSE_METHODS))]
    accept_options(method, block, options, hidden=BLOCK_ARGUMENTS)
    return partial(block, growth=growth, bottleneck=bottleneck, dropout=dropout, **options)
