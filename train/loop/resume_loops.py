"""What Lightning counts, put right when a saved state is loaded."""

from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from torch.optim.lr_scheduler import LambdaLR


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
