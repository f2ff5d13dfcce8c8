"""Weighted sums of a dense block's features: the formula and its gradients, whatever is read of them."""

import torch

from lightning_modules.networks.dense_blocks import MultiStepDenseBlock
from lightning_modules.networks.dense_features import WeightedSum, weighted_sum


def test_a_weighted_sum_differentiates_twice(float64):
    """Whichever of its outputs are read: the sum, what passes through, or both."""
    shapes = [(2, 3), (2,), (2, 3), (2, 3)]
    tensors = [torch.randn(shape, requires_grad=True) for shape in shapes]
    new, factors, *features = tensors
    by_hand = new + factors[0] * features[0] + factors[1] * features[1]
    result, *passed = weighted_sum(new, factors, features)
    assert torch.allclose(result, by_hand, rtol=1e-10)
    assert all(map(torch.equal, passed, features))
    for read in (slice(3), slice(1), slice(2), slice(1, 3)):
        assert torch.autograd.gradcheck(lambda *tensors, read=read: WeightedSum.apply(*tensors)[read], tensors)
        assert torch.autograd.gradgradcheck(lambda *tensors, read=read: WeightedSum.apply(*tensors)[read], tensors)


def test_coefficients_are_batched_over_features_they_share(float64):
    """``torch.vmap`` over one layer's coefficients is a loop over them: the same sums and shared gradients."""
    torch.manual_seed(0)
    block = MultiStepDenseBlock(6, 4, 3, False, 0.0, reading="fixed_point").eval()
    x, rows = torch.randn(2, 6, 4, 4), torch.randn(3, 2)

    def loss(row):
        return torch.func.functional_call(block, {"table.1": row}, (x,)).square().sum()

    wanted = [value for name, value in block.named_parameters() if name != "table.1"]
    looped, batched = torch.stack([*map(loss, rows)]), torch.vmap(loss)(rows)
    assert torch.allclose(batched, looped, rtol=1e-10)
    gradients = (torch.autograd.grad(losses.sum(), wanted) for losses in (batched, looped))
    for ours, theirs in zip(*gradients, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-8)
