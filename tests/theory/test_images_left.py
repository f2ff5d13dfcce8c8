"""What untrained networks have left of their images: the recurrence written out, and the methods' distances."""

from functools import partial

import pytest
import torch
from scipy.stats import spearmanr

from benchmark.experiments.hypothesis import HYPOTHESIS_DIGITS, SEEDS
from benchmark.experiments.momentum import BETAS
from benchmark.reports import expected_of_betas
from benchmark.theory.images_left import images_left, images_left_at_start
from lightning_modules.networks import create_network


def test_by_hand():
    """Small images, of which tanh is the identity: three layers of heavy ball on what tells them apart."""
    network = create_network("feedforward", method="heavy_ball", coefficients="fixed", beta=0.5, depth=3)
    images = 1e-4 * torch.randn(8, 3, 8, 8)
    weight = (network.weights[0].weight + network.weights[0].weight.T) / 2
    before = images.flatten(1) @ network.embedding.weight.T
    x = before = before - before.mean(0)
    history = x
    torch.nn.init.zeros_(network.embedding.bias)
    for _ in range(3):
        x, history = x @ weight + 0.5 * (x - history), x
    assert images_left(network, images) == pytest.approx(float(x.norm() / before.norm()), rel=1e-4)


def test_no_network_is_made_of_the_numbers_that_its_images_are():
    """Of one generator and seed, images that an embedding was drawn as would stand out."""
    network = next(row.network for row in HYPOTHESIS_DIGITS.rows if row.key == "injected-triple_momentum-5")
    create = partial(create_network, network.name, **network.options)
    found = [images_left_at_start(create, [seed]) for seed in SEEDS]
    assert max(found) < 1.03 * min(found)


def test_where_images_share_the_minimum_the_nearer_to_it_the_less_is_left():
    expected = expected_of_betas()
    for depth in (5, 10, 20):
        found = [expected[beta].images_left["shared", depth] for beta in BETAS]
        assert spearmanr(found, [expected[beta].distances[depth] for beta in BETAS]).statistic > 0.9
        assert min(expected[beta].images_left["injected", depth] for beta in BETAS) > 1
