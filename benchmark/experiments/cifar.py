"""The CIFAR table of Li, Yang, Chen and Lin (ACML 2018): error % on C10, C10+, C100, C100+.

    python -m benchmark run cifar                     (make reproduce-cifar)
    python -m benchmark run cifar --profile short --data-dir images.tar.gz --only '*20*'

Protocol (paper profile): SGD, Nesterov momentum 0.9, weight decay 1e-4, batch 64, 300 epochs, rate 0.1 divided
by 10 at 50 % and 75 % (the DenseNet protocol). "+" is pad 4, random crop and horizontal flip; without it the
dense networks drop out 0.2 after each convolution but the first. Expected errors: ``results/paper/cifar.csv``.

The paper's rows are the default. Rows of depth 20 and 22, structures beside the paper's at depth 56 and the
ablations of what the paper leaves open are extra: ask for them by name. On one core of an AMD EPYC (bf16), depth 20
takes half an hour under the short profile and a dense network of depth 22 as long under the quick one, where no
other work shares the core.
"""

from dataclasses import replace

from benchmark.specs import DataSpec, Experiment, NetworkSpec, RecipeSpec, Row

DROPOUT = {"dropout": 0.2}


def _pair(structures: str, names: str, label: str, size: int, published: str, **fields: object) -> tuple[Row, Row]:
    """The paper's structure and the one it is compared with, which is named first."""
    first, second = (
        Row(key := f"cifar_{structure}{size}", name + label, NetworkSpec(key), published=name + published, **fields)
        for structure, name in zip(structures.split(), names.split(), strict=True)
    )
    return first, replace(second, baseline=first.key)


def _residual(n: int) -> tuple[Row, Row]:
    depth = 6 * n + 2
    return _pair("resnet hbnet", "ResNet HB-Net", f"-{depth} (n={n})", depth, f" (n={n})")


def _dense(depth: int) -> tuple[Row, Row]:
    label = f" (k=12, L={depth})"
    return _pair("densenet agdnet", "DenseNet AGD-Net", label, depth, label, options_without_augmentation=DROPOUT)


def _extra(key: str, label: str, network: str, baseline: str | None = None, **options: object) -> Row:
    return Row(key, label, NetworkSpec(network, options), baseline=baseline, extra=True)


FIXED_POINT = {"reading": "fixed_point"}
FIXED = {"coefficients": "fixed"}

DEPTH_20 = (
    _extra("cifar_plain20", "plain-20", "cifar_plain20"),
    _extra("cifar_resnet20", "ResNet-20", "cifar_resnet20"),
    replace(
        _extra("cifar_resnet20-reference", "ResNet-20, reference loop", "cifar_resnet20", "cifar_resnet20"),
        recipe={"loop": "reference", "precision": "32-true", "channels_last": False, "compile": False},
    ),
    _extra("cifar_hbnet20", "HB-Net-20", "cifar_hbnet20", "cifar_resnet20"),
    _extra("cifar_hbnet20-fixed", "HB-Net-20, fixed", "cifar_hbnet20", "cifar_resnet20", **FIXED),
    _extra(
        "cifar_hbnet20-free",
        "HB-Net-20, free a, b",
        "cifar_hbnet20",
        "cifar_resnet20",
        method="two_coefficient",
    ),
    _extra("cifar_hbnet20-fixed_point", "HB-Net-20, fixed point", "cifar_hbnet20", "cifar_plain20", **FIXED_POINT),
    _extra(
        "cifar_hbnet20-fixed_point-fixed",
        "HB-Net-20, fixed point, fixed",
        "cifar_hbnet20",
        "cifar_plain20",
        **FIXED_POINT,
        **FIXED,
    ),
    _extra("cifar_agdresnet20", "Nesterov-20", "cifar_agdresnet20", "cifar_resnet20"),
    _extra(
        "cifar_agdresnet20-multi_step",
        "Nesterov-20, multi-step",
        "cifar_agdresnet20",
        "cifar_resnet20",
        method="nesterov_multi_step",
    ),
)

DEPTH_56 = (
    _extra("cifar_plain56", "plain-56", "cifar_plain56"),
    _extra("cifar_hbnet56-fixed_point", "HB-Net-56, fixed point", "cifar_hbnet56", "cifar_plain56", **FIXED_POINT),
    _extra("cifar_agdresnet56", "Nesterov-56", "cifar_agdresnet56", "cifar_resnet56"),
)
"""Beside the paper's ResNet-56 and HB-Net-56."""

_AGDNET22 = _extra("cifar_agdnet22", "AGD-Net (k=12, L=22)", "cifar_agdnet40", "cifar_densenet22", depth=22)


def _agdnet22(reading: str, coefficients: str, reads_input: bool) -> Row:
    options = {**_AGDNET22.network.options, "reading": reading, "coefficients": coefficients}
    form, words = [reading, coefficients], [reading.replace("_", " "), coefficients]
    if reads_input:
        options["input_factor"] = 1.0
        form, words = [*form, "input"], [*words, "input read"]
    return replace(
        _AGDNET22,
        key="-".join([_AGDNET22.key, *form]),
        label=", ".join([_AGDNET22.label, *words]),
        network=NetworkSpec("cifar_agdnet40", options),
        options_without_augmentation=DROPOUT,
    )


DEPTH_22 = (
    replace(
        _extra("cifar_densenet22", "DenseNet (k=12, L=22)", "cifar_densenet40", depth=22),
        options_without_augmentation=DROPOUT,
    ),
    *(_agdnet22(r, c, i) for i in (False, True) for r in ("residual", "fixed_point") for c in ("learned", "fixed")),
)
"""AGD-Net's forms; ``-input`` are those whose layers all read the block's input (``MultiStepDenseBlock``)."""

PAPER = RecipeSpec()

SHORT = RecipeSpec(epochs=15, batch_size=128, learning_rate=0.2, weight_decay=5e-4, schedule="one_cycle")

QUICK = replace(SHORT, epochs=5)
"""For dense networks on a CPU, an epoch of which takes minutes at depth 22."""

EXPERIMENT = Experiment(
    name="cifar",
    title="CIFAR-10 and CIFAR-100: test error (%)",
    rows=(*_residual(9), *_residual(18), *_dense(40), *_dense(52), *DEPTH_20, *DEPTH_22, *DEPTH_56),
    datasets={
        "cifar10": DataSpec("cifar10"),
        "cifar10+": DataSpec("cifar10", augment=True),
        "cifar100": DataSpec("cifar100"),
        "cifar100+": DataSpec("cifar100", augment=True),
    },
    profiles={
        "paper": PAPER,
        "short": SHORT,
        "quick": QUICK,
        "smoke": replace(SHORT, epochs=2, batch_size=32, limit_batches=2),
    },
    default_profile="paper",
)
