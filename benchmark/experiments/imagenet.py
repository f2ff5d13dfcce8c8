"""The ImageNet table of Li, Yang, Chen and Lin (ACML 2018): top-1 and top-5 error %, single central crop of 224.

    python -m benchmark run imagenet --data-dir ILSVRC2012                  (make reproduce-imagenet DATA_DIR=...)
    python -m benchmark run imagenet --data-dir imagenette2 --profile short

Protocol (paper profile): SGD, Nesterov momentum 0.9, weight decay 1e-4, batch 256 over all devices, 90 epochs, rate
0.1 divided by 10 at epochs 30 and 60; RandomResizedCrop(224) and horizontal flip. Expected errors:
``results/paper/imagenet.csv``. Any folder of images in train/<class>/ and val/<class>/ runs through the same
command; it is tabulated under its own name, without published numbers.

The paper's rows are the default; those of 18 and 50 layers are extra: ask for them by name.
"""

from dataclasses import replace

from benchmark.specs import DataSpec, Experiment, NetworkSpec, RecipeSpec, Row


def _pair(
    baseline: str, structure: str, names: tuple[str, str], depth: int, extra: bool = False
) -> tuple[Row, Row]:
    """A structure and the one it is compared with; ``names`` are what the paper calls them."""
    keys = [f"imagenet_{part}{depth}" for part in (baseline, structure)]
    labels = [f"{name}-{depth}" for name in names]
    first, second = (
        Row(key, label, NetworkSpec(key), published=label, extra=extra)
        for key, label in zip(keys, labels, strict=True)
    )
    return first, replace(second, baseline=first.key)


RESIDUAL = ("resnet", "hbnet", ("ResNet", "HB-Net"))
DENSE = ("densenet", "agdnet", ("DenseNet", "AGD-Net"))

PAPER = RecipeSpec(epochs=90, batch_size=256, milestones=(1 / 3, 2 / 3), image_size=224)

SHORT = replace(PAPER, epochs=16, learning_rate=0.2, schedule="one_cycle")

EXPERIMENT = Experiment(
    name="imagenet",
    title="ImageNet protocol: test error (%)",
    rows=(
        *_pair(*RESIDUAL, depth=34),
        *_pair(*DENSE, depth=121),
        *_pair(*RESIDUAL, depth=18, extra=True),
        *_pair(*RESIDUAL, depth=50, extra=True),
    ),
    datasets={"imagenet": DataSpec("imagenet", augment=True)},
    profiles={
        "paper": PAPER,
        "short": SHORT,
        "smoke": replace(SHORT, epochs=2, batch_size=32, limit_batches=2, image_size=64),
    },
    default_profile="paper",
    top5=True,
)
