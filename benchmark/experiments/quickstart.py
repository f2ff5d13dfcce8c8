"""Five structures at a small depth on scikit-learn's digits: minutes on two CPU cores (make quickstart).

    python -m benchmark run quickstart

1,297 training and 500 test images of 8 x 8 pixels, three seeds. It shows that the pipeline works from images
to table; at this size the structures do not differ, and the table says so with its intervals.
"""

from dataclasses import replace

from benchmark.specs import DataSpec, Experiment, NetworkSpec, RecipeSpec, Row

SMALL = {"depth": 14}
SMALL_DENSE = {"depth": 10}

SHORT = RecipeSpec(
    epochs=12, batch_size=64, learning_rate=0.1, weight_decay=5e-4, schedule="one_cycle", compile=False
)
"""As it is on a GPU, too: to compile would take longer than the training."""

EXPERIMENT = Experiment(
    name="quickstart",
    title="scikit-learn's digits, small depth: test error (%)",
    rows=(
        Row("plain14", "plain-14", NetworkSpec("cifar_plain20", SMALL)),
        Row("resnet14", "ResNet-14", NetworkSpec("cifar_resnet20", SMALL)),
        Row("hbnet14", "HB-Net-14", NetworkSpec("cifar_hbnet20", SMALL), baseline="resnet14"),
        Row("densenet10", "DenseNet (k=12, L=10)", NetworkSpec("cifar_densenet40", SMALL_DENSE)),
        Row(
            "agdnet10",
            "AGD-Net (k=12, L=10)",
            NetworkSpec("cifar_agdnet40", SMALL_DENSE),
            baseline="densenet10",
        ),
    ),
    datasets={"digits": DataSpec("digits")},
    profiles={"short": SHORT, "smoke": replace(SHORT, epochs=2, batch_size=32, limit_batches=2)},
    default_profile="short",
)
