"""A compiled network trains as the eager one does."""

import pytest
import torch
import torch.nn.functional as F

from lightning_modules.classifier import LitClassifier

CASES = [
    ("cifar_hbnet20", {"depth": 14}),
    ("cifar_agdresnet20", {"depth": 14}),
    ("cifar_agdnet40", {"depth": 13, "reading": "fixed_point"}),
    ("imagenet_hbnet18", {"widths": (8, 12, 16, 20)}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_compiled_equals_eager(name, options):
    """Two batch sizes, as in an epoch whose last batch is smaller, then evaluation."""
    torch.compiler.reset()  # else the cases before count, and the last ones would stay eager
    models = []
    for compile in (False, True):
        torch.manual_seed(0)
        models.append(LitClassifier(name, network_options=options, compile=compile))
    eager, compiled = models
    for size in (6, 4, 6):
        images, labels = torch.randn(size, 3, 8, 8), torch.randint(0, 10, (size,))
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
