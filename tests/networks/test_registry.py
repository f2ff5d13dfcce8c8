"""Networks by name: what they are made for, which options they take, and what weight decay leaves alone."""

import math
from collections import UserList

import numpy as np
import pytest
import torch
from pytorch_lightning.plugins.layer_sync import TorchSyncBatchNorm
from torch import nn

from lightning_modules import create_network
from lightning_modules.networks.registry import no_weight_decay


def test_classes_and_images_of_a_network():
    assert create_network("imagenet_resnet18")(torch.zeros(1, 3, 64, 64)).shape == (1, 1000)
    assert create_network("imagenet_densenet121", 7, in_channels=1)(torch.zeros(1, 1, 64, 64)).shape == (1, 7)
    assert create_network("cifar_resnet20")(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


def test_weight_decay_spares_coefficients_alone():
    hbnet = create_network("cifar_hbnet20")
    assert no_weight_decay(hbnet) == {f"stages.{i}.rule.beta" for i in range(3)}
    agdnet = create_network("cifar_agdnet40", depth=10, coefficients="learned")
    assert no_weight_decay(agdnet) == {f"blocks.{b}.table.{k}" for b in (0, 2, 4) for k in range(2)}
    imagenet = create_network("imagenet_hbnet34")
    assert no_weight_decay(imagenet) == {f"stages.{i}.rule.beta" for i in range(4)}
    assert sum(stage.rule.beta.numel() for stage in imagenet.stages) == 12
    assert not no_weight_decay(create_network("cifar_resnet20", shortcut="projection"))
    assert not no_weight_decay(create_network("imagenet_resnet50"))
    assert not no_weight_decay(create_network("cifar_hbnet20", coefficients="fixed"))
    assert not no_weight_decay(create_network("cifar_agdnet40", depth=10, coefficients="fixed"))
    for network in (hbnet, agdnet):
        names = no_weight_decay(network)
        synchronised = TorchSyncBatchNorm().apply(network)
        assert no_weight_decay(synchronised) == names
        assert no_weight_decay(TorchSyncBatchNorm().revert(synchronised)) == names  # as after Lightning's fit


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cifar_hbnet57", {}, "unknown network 'cifar_hbnet57'; did you mean cifar_hbnet56"),
        ("cifar_resnet20", {"pre_activation": "no"}, "pre_activation must be True or False, got 'no'"),
        ("cifar_densenet40", {"memory_efficient": "no"}, "memory_efficient must be True or False, got 'no'"),
        ("cifar_resnet20", {"depth": "abc"}, "depth must be an integer, got 'abc'"),
        ("cifar_densenet40", {"compression": math.inf}, "compression must be a finite float32 number, got inf"),
        ("cifar_hbnet20", {"beta": 1e39}, "beta must be a finite float32 number, got 1e\\+39"),
        ("cifar_hbnet20", {"beta": math.nan}, "beta must be a finite float32 number, got nan"),
        (
            "cifar_hbnet20",
            {"method": "two_coefficient", "a": math.inf},
            "a must be a finite float32 number",
        ),
        ("cifar_resnet20", {"depth": 21}, "depth 21 is not 6n \\+ 2; the nearest are 20 and 26"),
        ("cifar_resnet20", {"depth": 3}, "depth 3 is not 6n \\+ 2; the nearest are 8 and 14"),
        ("cifar_densenet40", {"depth": 41}, "depth 41 is not 3n \\+ 4; the nearest are 40 and 43"),
        ("cifar_densenet40", {"reading": "residual"}, "dense does not take reading"),
        ("cifar_densenet40", {"growth_rate": 24}, r"dense does not take growth_rate; .*the network's: .* growth,"),
        (
            "cifar_resnet20",
            {"in_chans": 1},
            r"does not take in_chans; its options: none; the network's: .*in_channels",
        ),
        ("cifar_resnet20", {"widths": (8, 16, 32, 64)}, "widths must be 3 numbers, got 4"),
        (None, {}, "given by its name, one of list_networks.., got NoneType"),
        (nn.Identity(), {}, "given by its name, one of list_networks.., got Identity"),
        ("cifar_resnet20", {"shortcut": "none"}, "unknown shortcut 'none'; valid: pad, projection"),
        ("imagenet_resnet18", {"depth": 20}, "unknown depth 20; valid: 18, 34, 50, 101, 152"),
        ("imagenet_densenet121", {"depth": 40}, "unknown depth 40; valid: 121, 161, 169, 201"),
        ("imagenet_densenet121", {"growth": 0}, "growth must be at least 1, got 0"),
        ("imagenet_resnet50", {"widths": (8, 16)}, "widths must be 4 numbers, got 2"),
        ("imagenet_densenet121", {"bottleneck": False}, "dense does not take bottleneck"),
        ("imagenet_resnet18", {"pre_activation": 1}, "pre_activation must be True or False, got 1"),
        ("imagenet_hbnet35", {}, "unknown network 'imagenet_hbnet35'; did you mean imagenet_hbnet"),
        ("cifar_agdnet40", {"input_factor": math.inf}, "input_factor must be a finite float32 number, got inf"),
        *(
            (
                name,
                {
                    "method": "step_table",
                    "table": [[float(j == k) for j in range(k + 1)] for k in range(7)],
                    **options,
                },
                "the step table has 7 rows, and no stage has more than",
            )
            for name, options in [("cifar_resnet20", {}), ("imagenet_resnet34", {}), ("feedforward", {"depth": 6})]
        ),
        ("cifar_agdnet40", {"input_factor": "all"}, "input_factor must be a finite float32 number, got 'all'"),
        ("cifar_agdnet40", {"method": "heavy_ball"}, "unknown method 'heavy_ball'; valid: dense"),
    ],
)
def test_bad_networks(name, options, message):
    with pytest.raises(ValueError, match=message):
        create_network(name, **options)


def test_other_kinds_of_layers_are_decayed():
    network = create_network("cifar_hbnet20", depth=8)
    network.stages[0].transforms[0].conv1 = nn.utils.parametrizations.weight_norm(nn.Conv2d(16, 16, 3, padding=1))
    network.stages[1].transforms[0].norm1 = nn.GroupNorm(2, 32)
    assert no_weight_decay(network) == no_weight_decay(create_network("cifar_hbnet20", depth=8))


def test_widths_of_another_library():
    widths = UserList([np.int64(4), 8, 8])
    assert str(create_network("cifar_hbnet20", widths=widths)) == str(
        create_network("cifar_hbnet20", widths=[4, 8, 8])
    )
    assert "HeavyBall(steps=3, reading='residual')" in str(
        create_network("cifar_hbnet20", widths=np.array([4, 8, 8]))
    )
