"""Lightning's trainer, told to leave files, bars and loggers to us."""

import datetime
import logging
import pickle
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.strategies import DDPStrategy
from torch.optim.lr_scheduler import LambdaLR

from aalbert.errors import IntegrityError
from aalbert.models.device import best_device
from aalbert.shards.loading.loader import Stream
from aalbert.train.loop.checkpoints import AtomicCheckpoints
from aalbert.train.loop.ranks import Ranks

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


class Meeting(Callback):
    """Meets the other ranks before the first step, and refuses to go on if they differ.

    What the first rank does `then` finds all of them past reading the files of the run.
    """

    def __init__(
        self,
        ranks: Ranks,
        facts: Mapping[str, Any],
        then: Callable[[], None] = lambda: None,
    ) -> None:
        self.ranks = ranks
        self.facts = facts
        self.then = then

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Compare the facts of all ranks."""
        self.ranks.join()
        self.ranks.require_same(self.facts)
        if self.ranks.first:
            self.then()


def data_parallel(ranks: Ranks) -> DDPStrategy:
    """Return the strategy that averages gradients over ranks, none of which waits for ever."""
    return DDPStrategy(
        process_group_backend="nccl" if best_device().type == "cuda" else "gloo",
        timeout=datetime.timedelta(seconds=ranks.timeout_s),
    )


class ResumeLoops(Callback):
    """Lets a saved state continue with another number of ranks, or of steps.

    Lightning counts batches of this process, and whether the last one was the last of all; both
    follow from the steps. So does the learning rate, which a longer run has otherwise.
    """

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Put the count right in the state that is being loaded."""
        batches = checkpoint["global_step"] * trainer.accumulate_grad_batches
        # The batch at whose end the state was saved is not completed yet.
        count = {"ready": batches, "started": batches, "processed": batches}
        count["completed"] = batches - 1
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        progress.update(total=count, current=dict(count), is_last_batch=False)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the learning rates from the schedule, not from the state."""
        for entry in trainer.lr_scheduler_configs:
            scheduler = entry.scheduler
            assert isinstance(scheduler, LambdaLR)
            groups = zip(
                scheduler.optimizer.param_groups,
                scheduler.base_lrs,
                scheduler.lr_lambdas,
                strict=True,
            )
            for group, peak, factor in groups:
                group["lr"] = peak * factor(scheduler.last_epoch)


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
