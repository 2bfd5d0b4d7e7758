"""Lightning's trainer, told to leave files, bars and loggers to us."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, Trainer

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
        **options,
    )


@contextmanager
def relevant_warnings() -> Iterator[None]:
    """Silence the warnings of Lightning that do not apply to our loops."""
    with warnings.catch_warnings():
        for pattern in IRRELEVANT_WARNINGS:
            warnings.filterwarnings("ignore", message=pattern)
        yield
