"""Lightning's trainer, told to leave files, bars and loggers to us."""

import datetime
import logging
import pickle
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.strategies import DDPStrategy

from aalbert.errors import IntegrityError
from aalbert.models.device import best_device
from aalbert.shards.loading.loader import Stream
from aalbert.train.loop.checkpoints import AtomicCheckpoints
from aalbert.train.loop.ranks import Ranks
from aalbert.train.loop.resume_loops import ResumeLoops

# Lightning's advice that does not hold here, each with the reason.
IRRELEVANT_WARNINGS = (
    # A frozen upstream is in evaluation mode on purpose: its dropout is off.
    r".*in eval mode at the start of training.*",
    # Lightning asks PyTorch's trees in a way that PyTorch 2.11 marks as old.
    r".*isinstance\(treespec, LeafSpec\).*",
    # Apple's GPU is left alone on purpose.
    r"GPU available but not used.*",
)


@contextmanager
def without_irrelevant_warnings() -> Iterator[None]:
    """Let no advice through that does not hold here."""
    with warnings.catch_warnings():
        for pattern in IRRELEVANT_WARNINGS:
            warnings.filterwarnings("ignore", message=pattern)
        yield


@without_irrelevant_warnings()
def make_trainer(
    folder: Path, callbacks: Sequence[Callback], ranks: Ranks, **options: Any
) -> Trainer:
    """Return a trainer on the best device at hand that writes nothing of its own."""
    for name in ("pytorch_lightning", "lightning_fabric", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    trainer = Trainer(
        default_root_dir=folder,
        callbacks=[*callbacks, ResumeLoops()],
        accelerator=best_device().type,
        devices=ranks.size // ranks.nodes,
        num_nodes=ranks.nodes,
        strategy="auto" if ranks.size == 1 else data_parallel(ranks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        # Named, for under SLURM Lightning would otherwise requeue jobs by itself.
        plugins=[ranks.environment, AtomicCheckpoints()],
        **options,
    )
    # Lightning asks all ranks before every batch whether one was sent SIGTERM, and waits for the
    # GPU to answer; `StopOnSignal` does that, on the CPU.
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]
    return trainer


def data_parallel(ranks: Ranks) -> DDPStrategy:
    """Return the strategy that averages gradients over ranks, none of which waits for ever."""
    return DDPStrategy(
        process_group_backend="nccl" if best_device().type == "cuda" else "gloo",
        timeout=datetime.timedelta(seconds=ranks.timeout_s),
    )


def fit(trainer: Trainer, module: LightningModule, stream: Stream, state: Path | None) -> None:
    """Train to the end of a stream, from a saved state on if there is one.

    A state may hold tensors and plain values only. Raises `IntegrityError` when it holds
    anything else, without running it.
    """
    with without_irrelevant_warnings():
        try:
            trainer.fit(module, stream, ckpt_path=state, weights_only=True)
        except pickle.UnpicklingError as error:
            raise IntegrityError(
                f"{state} holds more than tensors and plain values, and is not loaded: "
                "it was not written by this program"
            ) from error
