"""A compiled network trains as the eager one does."""

import pytest
import torch
import torch.nn.functional as F

from lightning_modules import create_network
from lightning_modules.classifier import LitClassifier

CASES = [
    ("cifar_hbnet20", {"depth": 14}),
    ("cifar_agdresnet20", {"depth": 14}),
    ("cifar_agdnet40", {"depth": 13, "coefficients": "learned"}),
    ("cifar_densenet40", {"depth": 10, "memory_efficient": True}),
    ("imagenet_hbnet18", {"widths": (8, 12, 16, 20)}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_compiled_equals_eager(name, options):
    """Two batch sizes, as in an epoch whose last batch is smaller, then evaluation; in float64, as sums in another
    order move a float32 gradient by more than the bound on some CPUs."""
    torch.compiler.reset()  # else the cases before count, and the last ones would stay eager
    models = []
    for compile in (False, True):
        torch.manual_seed(0)
        models.append(LitClassifier(name, network_options=options, compile=compile).double())
    eager, compiled = models
    for size in (6, 4, 6):
        images, labels = torch.randn(size, 3, 8, 8, dtype=torch.float64), torch.randint(0, 10, (size,))
        losses = []
        for model in models:
            model.zero_grad()
            losses.append(F.cross_entropy(model(images), labels))
            losses[-1].backward()
        torch.testing.assert_close(losses[1], losses[0], rtol=1e-4, atol=1e-5)
        for p, q in zip(compiled.parameters(), eager.parameters(), strict=True):
            torch.testing.assert_close(p.grad, q.grad, rtol=1e-2, atol=1e-3)
    for p, q in zip(compiled.buffers(), eager.buffers(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-5)
    assert compiled.state_dict().keys() == eager.state_dict().keys()
    torch.testing.assert_close(compiled.eval()(images), eager.eval()(images), rtol=1e-3, atol=1e-4)


def kept_when_compiled(name, **options):
    """Bytes kept for the backward pass by compiled code, in one graph; weights apart."""
    torch.compiler.reset()
    torch.manual_seed(0)
    network = create_network(name, **options).to(memory_format=torch.channels_last)
    network.compile(backend="aot_eager_decomp_partition", dynamic=False, fullgraph=True)
    images = torch.randn(4, 3, 16, 16).contiguous(memory_format=torch.channels_last)
    network(images).sum().backward()
    weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(images)
    return sum(size for size, _ in kept.values())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options", "bound"),
    [
        ("cifar_agdresnet20", {}, 1.005),
        ("cifar_hbnet20", {}, 1.05),
        ("cifar_hbnet20", {"coefficients": "fixed"}, 1.005),
        ("cifar_hbnet20", {"reading": "fixed_point"}, 1.05),
    ],
    ids=str,
)
def test_compiled_structures_keep_no_more_than_a_resnet(name, options, bound):
    """But for each stage's x_0, which the gradient of heavy ball's learned coefficients needs."""
    assert kept_when_compiled(name, **options) < bound * kept_when_compiled("cifar_resnet20")


@pytest.mark.slow
def test_compiled_dense_networks_keep_less_on_demand():
    usual, efficient = (
        kept_when_compiled("cifar_densenet40", depth=22, memory_efficient=flag) for flag in (False, True)
    )
    assert efficient < 0.5 * usual
