"""Lightning's trainer, told to leave files, bars and loggers to us."""

import logging
import pickle
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning import Callback, LightningModule, Trainer

from aalbert.errors import IntegrityError
from aalbert.shards.stream import Stream
from aalbert.train.checkpoints import AtomicCheckpoints

# Lightning's advice that does not hold here, each with the reason.
IRRELEVANT_WARNINGS = (
    # A frozen upstream is in evaluation mode on purpose: its dropout is off.
    r".*in eval mode at the start of training.*",
    # Lightning asks PyTorch's trees in a way that PyTorch 2.11 marks as old.
    r".*isinstance\(treespec, LeafSpec\).*",
)


def make_trainer(folder: Path, callbacks: Sequence[Callback], **options: Any) -> Trainer:
    """Return a trainer on the best device at hand that writes nothing of its own."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    return Trainer(
        default_root_dir=folder,
        callbacks=list(callbacks),
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        # One process; under SLURM Lightning would otherwise requeue jobs by itself.
        plugins=[LightningEnvironment(), AtomicCheckpoints()],
        **options,
    )


def fit(trainer: Trainer, module: LightningModule, stream: Stream, state: Path | None) -> None:
    """Train to the end of a stream, from a saved state on if there is one.

    A state may hold tensors and plain values only. Raises `IntegrityError` when it holds
    anything else, without running it.
    """
    with warnings.catch_warnings():
        for pattern in IRRELEVANT_WARNINGS:
            warnings.filterwarnings("ignore", message=pattern)
        try:
            trainer.fit(module, stream, ckpt_path=state, weights_only=True)
        except pickle.UnpicklingError as error:
            raise IntegrityError(
                f"{state} holds more than tensors and plain values, and is not loaded: "
                "it was not written by this program"
            ) from error
