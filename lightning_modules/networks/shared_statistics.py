"""Batch norm of features whose batch statistics are known, so that they are counted once and not in every layer.

A channel of a dense block has the same mean and variance in each of the layers that read it. On a CPU the pass over
memory that counts them is most of a batch norm's forward pass.

Shapes: B images, C channels, H x W pixels; tensors are (B, C, H, W), statistics (2, C): means and biased variances.
"""

import math

import torch
from torch import Tensor, fx, nn
from torch.autograd import forward_ad

LANES = 32
"""Numbers of bf16 in a vector of 512 bits."""


def is_transformed(x: Tensor) -> bool:
    """Whether a compiler, ``torch.func``, a tracer or forward-mode derivatives make something else of x."""
    return (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or torch._C._are_functorch_transforms_active()
        or isinstance(x, fx.Proxy)
        or forward_ad._current_level >= 0
    )


def saves_time(x: Tensor) -> bool:
    """Whether the statistics of (B, C, H, W) are worth counting apart: on a CPU, unless code is compiled for it.

    Transforms and subclasses of Tensor have rules for torch's own batch norm alone, which also refuses a single
    value a channel.
    """
    return not is_transformed(x) and x.device.type == "cpu" and type(x) is Tensor and x.numel() > x.shape[1]


def batch_statistics(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (2, C), in float32, or float64 where x is.

    Channels that do not fill a vector are reduced slowly: r neighbouring pixels are treated as r C channels, whose
    means m_i and variances v_i are merged to mean(m) and mean(v) + mean((m - mean(m))^2).
    """
    x = x.detach()
    batch, channels, height, width = x.shape
    r = math.gcd(height * width, LANES // math.gcd(channels, LANES))
    pixels = x.permute(0, 2, 3, 1).reshape(batch, height * width // r, 1, r * channels).permute(0, 3, 1, 2)
    kind = torch.promote_types(x.dtype, torch.float32)
    zeros = x.new_zeros(r * channels, dtype=kind)  # as running statistics, they set what the result is counted in
    means, variances = torch.batch_norm_update_stats(pixels, zeros, zeros, 0.0)
    means, variances = means.view(r, channels), variances.view(r, channels)
    mean = means.mean(0)
    return torch.stack([mean, (variances + (means - mean).square()).mean(0)])


class NormalizeBy(torch.autograd.Function):
    """weight (x - mean) / sqrt(variance + eps) + bias, of x's own statistics (2, C): batch norm in training mode.

    The gradient is that of batch norm; none is needed for the statistics.
    """

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor, statistics: Tensor, eps: float) -> Tensor:
        mean, variance = statistics
        return torch.native_batch_norm(x, weight, bias, mean, variance, False, 0.0, eps)[0]

    @staticmethod
    def setup_context(ctx: torch.autograd.function.FunctionCtx, inputs: tuple, output: Tensor) -> None:
        x, weight, _, statistics, ctx.eps = inputs
        ctx.save_for_backward(x, weight, statistics)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, (mean, variance) = ctx.saved_tensors
        scale = (variance + ctx.eps).rsqrt()
        return (
            *torch.ops.aten.native_batch_norm_backward(
                gradient, x, weight, None, None, mean, scale, True, ctx.eps, [True, True, True]
            ),
            None,
            None,
        )


class SharedStatisticsNorm(nn.BatchNorm2d):
    """``nn.BatchNorm2d`` that can be told its batch's statistics, as long as it ``takes_statistics``."""

    @property
    def takes_statistics(self) -> bool:
        """Whether it counts statistics, in the usual way: not one that is frozen, or of other settings."""
        return self.training and self.track_running_stats and self.affine and self.momentum is not None

    def _check_input_dim(self, x: Tensor) -> None:
        """Not of what stands for a tensor in ``torch.fx``, which looks into modules that are not torch's own."""
        if not isinstance(x, fx.Proxy):
            super()._check_input_dim(x)

    def forward(self, x: Tensor, statistics: Tensor | None = None) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        if statistics is None or not self.takes_statistics:
            return super().forward(x)
        statistics = statistics.to(self.weight.dtype)
        mean, variance = statistics
        count = x.numel() // x.shape[1]
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
        return NormalizeBy.apply(x, self.weight, self.bias, statistics, self.eps)
