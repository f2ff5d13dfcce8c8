"""Lightning's Trainer as every run has it, and its silence."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.strategies import DDPStrategy

from benchmark.checkpoints import AtomicCheckpointIO
from benchmark.group import Group
from benchmark.specs import RecipeSpec


def create_trainer(
    recipe: RecipeSpec, device: str, root: Path, callbacks: list[pl.Callback], group: Group | None = None
) -> pl.Trainer:
    """A Trainer with our checkpoints and nothing printed, on one device or a group's.

    Alone, cluster variables do not leak in.
    """
    group = group or Group()
    limit = recipe.limit_batches or None
    with quiet():
        trainer = pl.Trainer(
            accelerator="gpu" if device == "cuda" else "cpu",
            devices=group.devices,
            num_nodes=group.nodes,
            strategy=DDPStrategy() if group.size > 1 else "auto",
            sync_batchnorm=recipe.sync_batchnorm,
            use_distributed_sampler=False,
            precision=recipe.precision,
            max_epochs=recipe.epochs,
            callbacks=callbacks,
            plugins=[AtomicCheckpointIO(), group.environment],
            default_root_dir=root,
            logger=False,
            enable_checkpointing=True,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            limit_train_batches=limit,
            limit_val_batches=limit,
            limit_test_batches=limit,
        )
    if group.size > 1:
        # it would ask before each batch whether the first process was told to stop, and the host would wait for the
        # device's answer; here each process is told itself (``parallel``)
        trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None
    return trainer


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps Lightning's advice off the screen; it is about data loaders and devices that we do not use."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        for category in (UserWarning, FutureWarning, DeprecationWarning):
            warnings.filterwarnings("ignore", category=category, module="pytorch_lightning|lightning_fabric|torch")
        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
