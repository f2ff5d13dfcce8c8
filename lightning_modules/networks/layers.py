"""Units that the backbones are made of: convolutions, stems, shortcuts, initialisation.

Shapes: B images, C channels, H x W pixels; tensors are (B, C, H, W).
"""

import torch.nn.functional as F
from torch import Tensor, nn


def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)


def conv1x1(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)


def norm_relu(channels: int) -> list[nn.Module]:
    """Batch norm and ReLU in place."""
    return [nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]


def imagenet_stem(in_channels: int, out_channels: int) -> nn.Sequential:
    """conv7x7-BN-ReLU-maxpool: a quarter of the image's side."""
    conv = nn.Conv2d(in_channels, out_channels, 7, stride=2, padding=3, bias=False)
    return nn.Sequential(conv, *norm_relu(out_channels), nn.MaxPool2d(3, stride=2, padding=1))


class PadShortcut(nn.Module):
    """Parameter-free shortcut: every ``stride``-th pixel, new channels zero (He et al. 2016, option A)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        new = out_channels - in_channels
        self.padding = (0, 0, 0, 0, new // 2, new - new // 2)

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], self.padding)


def projection_shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """1x1 convolution and batch norm (He et al. 2016, option B)."""
    return nn.Sequential(conv1x1(in_channels, out_channels, stride), nn.BatchNorm2d(out_channels))


def initialize(network: nn.Module, fan: str = "fan_out") -> None:
    """He et al. (2015) for convolutions, zero bias for the classifier."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode=fan, nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
