"""Lightning's trainer, without its own files, progress bars and loggers."""

import datetime
import logging
import pickle
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.strategies import DDPStrategy
from torch.optim.lr_scheduler import LambdaLR

from aalbert.errors import IntegrityError, require
from aalbert.models.device import best_device
from aalbert.shards.loading.loader import Stream
from aalbert.train.loop.checkpoints import AtomicCheckpoints
from aalbert.train.loop.ranks import Ranks

# Lightning's warnings that do not apply here, each with the reason.
IRRELEVANT_WARNINGS = (
    # A frozen upstream is in evaluation mode on purpose: its dropout is off.
    r".*in eval mode at the start of training.*",
    # Lightning uses PyTorch's trees in a way that PyTorch 2.11 deprecates.
    r".*isinstance\(treespec, LeafSpec\).*",
    # Apple's GPUs are not used on purpose.
    r"GPU available but not used.*",
)


@contextmanager
def without_irrelevant_warnings() -> Iterator[None]:
    """Ignore the warnings that do not apply here."""
    with warnings.catch_warnings():
        for pattern in IRRELEVANT_WARNINGS:
            warnings.filterwarnings("ignore", message=pattern)
        yield


class ResumeLoops(Callback):
    """Corrects Lightning's counts so that a state resumes with other numbers of ranks or steps.

    Lightning counts the batches of this process, and notes whether the last one was the last of
    all; both follow from the number of steps. So does the learning rate, which differs in a longer
    run.
    """

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Correct the counts of batches in the state that is being loaded."""
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


class TrainingMode(Callback):
    """Lets a model train that was loaded, or used before the first step, to be evaluated.

    Lightning keeps the mode that it finds.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the model into training mode, in which it has dropout."""
        pl_module.train()


@without_irrelevant_warnings()
def make_trainer(
    folder: Path,
    callbacks: Sequence[Callback],
    ranks: Ranks,
    **options: Any,
) -> Trainer:
    """Return a trainer on the best available device that writes no files of its own.

    Several ranks average their gradients; none waits for another one for ever.
    """
    for name in ("pytorch_lightning", "lightning_fabric", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    device = best_device()
    strategy: str | DDPStrategy = "auto"
    if ranks.size > 1:
        strategy = DDPStrategy(
            process_group_backend="nccl" if device.type == "cuda" else "gloo",
            timeout=datetime.timedelta(seconds=ranks.timeout_s),
            # They are the same on all ranks before the first step, and no step changes them. Labels
            # are buffers too, and large.
            broadcast_buffers=False,
        )
        connect = strategy.setup_distributed
        strategy.setup_distributed = partial(ranks.in_time, connect)  # type: ignore[method-assign]
    trainer = Trainer(
        default_root_dir=folder,
        callbacks=[*callbacks, ResumeLoops(), TrainingMode()],
        accelerator=device.type,
        devices=devices_of(device, ranks),
        num_nodes=ranks.nodes,
        strategy=strategy,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        # Explicit, because Lightning would otherwise requeue SLURM jobs by itself.
        plugins=[ranks.environment, AtomicCheckpoints()],
        **options,
    )
    # Before every batch Lightning asks all ranks whether one received SIGTERM, which waits for the
    # GPU; `StopOnSignal` does that on the CPU.
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]
    return trainer


def devices_of(device: torch.device, ranks: Ranks) -> int | list[int]:
    """Return how many devices this node uses, or which one; `ConfigError` for one for many."""
    if device.type == "cpu" or device.index is None:
        return ranks.size // ranks.nodes
    require(
        ranks.size == 1,
        f"the device '{device}' is one GPU for {ranks.size} processes: leave out its number",
    )
    return [device.index]


def average_gradients(trainer: Trainer) -> None:
    """Have the ranks average the gradients of the parameters that are trained from now on.

    They wait for a gradient of every parameter that was trained when they were told last.
    """
    strategy = trainer.strategy
    if isinstance(strategy, DDPStrategy):
        strategy.model = trainer.lightning_module
        strategy.configure_ddp()


def fit(trainer: Trainer, module: LightningModule, stream: Stream, state: Path | None) -> None:
    """Train to the end of a stream, from a saved state on if there is one.

    Raises `IntegrityError` when the state holds anything but tensors and plain values, which is
    not run.
    """
    with without_irrelevant_warnings():
        try:
            trainer.fit(module, stream, ckpt_path=state, weights_only=True)
        except SystemExit as error:
            # Lightning ends the program without a word on a Ctrl-C before training listens.
            raise KeyboardInterrupt from error
        except pickle.UnpicklingError as error:
            raise IntegrityError(
                f"{state} holds more than tensors and plain values, and is not loaded: "
                "it was not written by this program"
            ) from error
