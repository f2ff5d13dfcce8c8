"""Dense blocks: DenseNet's (Huang et al. 2017), and the same layers under the coefficients of a multi-step method.

Shapes: B images, C channels, H x W pixels, k growth rate; tensors are (B, C, H, W). A block's x_0 has c_0 channels,
every later x_j has k.

DenseNet's layer is x_{k+1} = H(concat(x_0, ..., x_k)), H = BN-ReLU-conv. AGD-Net's, from Nesterov's method in
multi-step form (``methods.multi_step_table``), is

    fixed point   x_{k+1} = H(concat(h^0 . x_0, ..., h^k . x_k)) + x_k - sum_{1<=j<=k} h^j x_j
    residual      x_{k+1} = H(concat(h^0 . x_0, ..., h^k . x_k)) + x_k                                  (k >= 1)

where h^j = h_{k+1}^j multiplies what the convolution receives from x_j (after BN and ReLU; before BN it would
cancel), so it is folded into the convolution's weight. Linear terms leave out x_0, whose channels differ.

Nesterov's h^0 is 1 in layer 0 and exactly 0 in every later one, since beta_1 = 0: the method carries x_0 on by its
identity terms alone. On dense layers x_0 has none, so there only layer 0 and what follows the block read it, unless
``input_factor`` gives it another factor.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.module import _global_forward_pre_hooks
from torch.utils.checkpoint import checkpoint

from lightning_modules.networks.dense_features import concatenate, weighted_sum
from lightning_modules.networks.layers import conv1x1, conv3x3
from lightning_modules.networks.methods import multi_step_table, nesterov_betas
from lightning_modules.networks.options import choice
from lightning_modules.networks.shared_statistics import SharedStatisticsNorm, batch_statistics, saves_time
from lightning_modules.networks.updates import READINGS, scalars


class DenseLayer(nn.Module):
    """BN-ReLU-conv3x3, or with a bottleneck BN-ReLU-conv1x1-BN-ReLU-conv3x3, each followed by dropout.

    ``scale`` (in_channels,) multiplies the input channels of the first convolution, by its weight: it is then not
    called as a module, so that hooks on it do not run. ``statistics``: see ``Features``.
    """

    def __init__(self, in_channels: int, growth: int, bottleneck: bool, dropout: float) -> None:
        super().__init__()
        self.norm1 = SharedStatisticsNorm(in_channels)
        if bottleneck:
            self.conv1 = conv1x1(in_channels, 4 * growth)
            self.norm2 = nn.BatchNorm2d(4 * growth)
            self.conv2 = conv3x3(4 * growth, growth)
        else:
            self.conv1 = conv3x3(in_channels, growth)
        self.bottleneck = bottleneck
        self.dropout = dropout

    def forward(self, x: Tensor, scale: Tensor | None = None, statistics: Tensor | None = None) -> Tensor:
        x = F.relu_(self.norm1(x) if statistics is None else self.norm1(x, statistics))
        if scale is None:
            x = self.conv1(x)
        else:
            weight = self.conv1.weight * scale[:, None, None]
            x = F.conv2d(x, weight, self.conv1.bias, padding=self.conv1.padding)
        x = F.dropout(x, self.dropout, self.training)
        if self.bottleneck:
            x = F.dropout(self.conv2(F.relu_(self.norm2(x))), self.dropout, self.training)
        return x


class Features(NamedTuple):
    """What the next layer reads: ``parts``, in one tensor or apart, and their batch statistics (2, C), if any."""

    parts: list[Tensor]
    statistics: Tensor | None


class DenseBlock(nn.Module):
    """DenseNet's block: every layer reads all features before it.

    Args:
        memory_efficient: save for the backward pass only the channels that each layer adds, and recompute the rest
            (concatenation, BN, ReLU, convolution).
    """

    def __init__(
        self,
        in_channels: int,
        layers: int,
        growth: int,
        bottleneck: bool,
        dropout: float,
        memory_efficient: bool = False,
    ) -> None:
        super().__init__()
        self.memory_efficient = memory_efficient
        self.layers = nn.ModuleList(
            DenseLayer(in_channels + k * growth, growth, bottleneck, dropout) for k in range(layers)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, c_0, H, W) -> (B, c_0 + layers k, H, W)."""
        features = self.begin(x)
        for k in range(len(self.layers)):
            features = self.grow(features, self.read(features, k), k)
        return concatenate(features.parts)

    def transform(self, x: Tensor, k: int, statistics: Tensor | None) -> Tensor:
        """What layer k makes of all features before it."""
        return self.layers[k](x) if statistics is None else self.layers[k](x, statistics=statistics)

    def begin(self, x: Tensor) -> Features:
        """The block's input, whose statistics are counted if a layer takes them."""
        count = any(map(self._takes_statistics, self.layers)) and saves_time(x)
        return Features([x], batch_statistics(x) if count else None)

    def read(self, features: Features, k: int) -> Tensor:
        """``transform`` of the features, kept for the backward pass or to be computed again."""
        parts, statistics = features
        if not self._takes_statistics(self.layers[k]):
            statistics = None
        if not self.memory_efficient or not torch.is_grad_enabled() or torch.jit.is_tracing():
            return self.transform(concatenate(parts), k, statistics)
        # what a compiler computes again leaves the running statistics alone
        apart = {} if torch.compiler.is_compiling() else {"context_fn": lambda: self._computing_again(k)}
        return checkpoint(
            lambda *parts: self.transform(concatenate(parts), k, statistics),
            *parts,
            use_reentrant=False,
            preserve_rng_state=self.layers[k].dropout > 0,
            **apart,
        )

    def _computing_again(self, k: int) -> tuple[AbstractContextManager, AbstractContextManager]:
        """Contexts of layer k's forward pass and of its recomputation."""
        return nullcontext(), StatisticsApart(self.layers[k])

    def grow(self, features: Features, new: Tensor, k: int) -> Features:
        """The features with layer k's among them: in one tensor, or apart if only that is to be kept."""
        parts, statistics = [*features.parts, new], features.statistics
        if statistics is not None:
            is_read = k + 1 < len(self.layers)
            statistics = torch.cat([statistics, batch_statistics(new)], 1) if is_read else None
        return Features(parts if self.memory_efficient else [concatenate(parts)], statistics)

    @staticmethod
    def _takes_statistics(layer: nn.Module) -> bool:
        """Not one that a user put in its place, whose norm another took, or whose input a hook may change."""
        norm = getattr(layer, "norm1", None)
        if not isinstance(norm, SharedStatisticsNorm) or not norm.takes_statistics:
            return False
        return not (layer._forward_pre_hooks or norm._forward_pre_hooks or _global_forward_pre_hooks)


class StatisticsApart(AbstractContextManager):
    """Inside, a module's batch norms update copies of their running statistics, which are then dropped.

    A forward pass that is computed again would otherwise count its batch twice. A graph that is run backward again
    enters again.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __enter__(self) -> None:
        norms = (m for m in self.module.modules() if isinstance(m, _BatchNorm))
        self.kept = [(norm, *named) for norm in norms for named in norm.named_buffers(recurse=False)]
        for norm, name, buffer in self.kept:
            setattr(norm, name, buffer.clone())

    def __exit__(self, *_: object) -> None:
        for norm, name, buffer in self.kept:
            setattr(norm, name, buffer)


def read_factors(betas: Sequence[float], input_factor: float | None = None) -> list[list[float]]:
    """Row k: the factors with which layer k reads x_0, ..., x_k; that of x_0 in layers k >= 1 is ``input_factor``.

    None leaves Nesterov's (``methods.multi_step_table``).
    """
    table = multi_step_table(betas)
    if input_factor is None:
        return table
    return [table[0], *([float(input_factor), *row[1:]] for row in table[1:])]


class MultiStepDenseBlock(DenseBlock):
    """AGD-Net's block: DenseNet's layers under Nesterov's multi-step coefficients.

    Fixed coefficients need no sum over all earlier features: the linear terms of layer k are -beta_{k+1} u_k with
    u_k = x_k + beta_k u_{k-1}, u_1 = x_1, which is the table's own recursion. Learned coefficients start from the
    table's rows, k + 1 scalars in layer k, and no recursion holds.

    Args:
        reading, coefficients: see ``updates``.
        input_factor: the factor of x_0 in layers k >= 1 (where learned coefficients start), e.g. DenseNet's 1;
            None is Nesterov's 0.
        linear_terms: False leaves them out (with factors of one that is DenseNet).
        memory_efficient: see ``DenseBlock``.
    """

    def __init__(
        self,
        in_channels: int,
        layers: int,
        growth: int,
        bottleneck: bool,
        dropout: float,
        reading: str = "residual",
        coefficients: str = "learned",
        input_factor: float | None = None,
        linear_terms: bool = True,
        memory_efficient: bool = False,
    ) -> None:
        super().__init__(in_channels, layers, growth, bottleneck, dropout, memory_efficient)
        self.in_channels, self.growth = in_channels, growth
        self.reading = choice("reading", reading, READINGS)
        self.linear_terms = linear_terms
        self.betas = nesterov_betas(layers)
        self.factors = read_factors(self.betas, input_factor)
        rows = [scalars(row, coefficients) for row in self.factors]
        self.learned = coefficients == "learned"
        if self.learned:
            self.table = nn.ParameterList(rows)
        else:
            for k, row in enumerate(rows):
                self.register_buffer(f"scale{k}", self._per_channel(torch.tensor(row)), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c_0, H, W) -> (B, c_0 + layers k, H, W)."""
        features, past, momentum = self.begin(x), [], None
        for k in range(len(self.layers)):
            new = self.read(features, k)
            if k and self.linear_terms:
                if self.reading == "residual":
                    new = new + past[-1]
                elif self.learned:
                    new, *past = weighted_sum(new + past[-1], -self.table[k][1:], past)
                    if self.memory_efficient:  # else two gradients of each would be alive
                        features = features._replace(parts=[features.parts[0], *past])
                else:
                    momentum = past[-1] if k == 1 else torch.add(past[-1], momentum, alpha=self.betas[k])
                    new = torch.sub(new, momentum, alpha=self.betas[k + 1])
            features = self.grow(features, new, k)
            past = [*past, new] if self.learned and self.reading == "fixed_point" else [new]
        return concatenate(features.parts)

    def transform(self, x: Tensor, k: int, statistics: Tensor | None) -> Tensor:
        """Layer k's convolutions of the scaled features."""
        return self.layers[k](x, self._scale(k), statistics)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Fixed factors stay intact wherever the block is moved, even by ``to_empty``, which sets no values."""
        super()._apply(fn, recurse)
        if not self.learned:
            for k, row in enumerate(self.factors):
                self._scale(k).copy_(self._per_channel(torch.tensor(row)))
        return self

    def _scale(self, k: int) -> Tensor:
        return self._per_channel(self.table[k]) if self.learned else getattr(self, f"scale{k}")

    def _per_channel(self, factors: Tensor) -> Tensor:
        """(j,) factors of x_0, x_1, ... -> one factor for each of their channels."""
        first, others = factors[:1], factors[1:]
        return torch.cat([first.expand(self.in_channels), others.repeat_interleave(self.growth)])
