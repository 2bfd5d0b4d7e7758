"""The training step of pretraining (mask, reconstruct, compare), and the held-out loss."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from aalbert.models.pretrained import PretrainedModel
from aalbert.models.training_states import MODEL_ENTRY
from aalbert.shards.loading.batch import Batch
from aalbert.shards.loading.loader import Loader
from aalbert.train.loop.optimiser import learning_rate_factor, parameter_groups
from aalbert.train.loop.ranks import Ranks
from aalbert.train.loop.stop_signals import SignalListener
from aalbert.train.loop.validation import Measurement
from aalbert.train.pretraining.build import PretrainSelections, build_model, make_loaders
from aalbert.train.pretraining.codes import Codes, build_codes
from aalbert.train.pretraining.config import PretrainConfig
from aalbert.train.pretraining.loss import ErrorSums
from aalbert.train.pretraining.reconstruction import VALIDATION_SEED, measure_errors, reconstruct
from aalbert.train.pretraining.start import Start
from aalbert.train.randomness import seed_of

# The type of the products of a step under each precision that is not float32 throughout.
AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


class Pretraining(LightningModule):
    """Connects a model with its optimiser: mask, reconstruct, compare.

    With `codes` those of hidden frames are predicted too; they are no part of the model.
    """

    def __init__(
        self, model: PretrainedModel, config: PretrainConfig, codes: Codes | None = None
    ) -> None:
        super().__init__()
        self.model = model
        self.codes = codes
        self.config = config
        if config.compile and model.upstream.encoder is not None:
            model.upstream.encoder.compile()

    def on_train_start(self) -> None:
        """Make the table of positions, so that compiled code neither makes it nor sees it grow."""
        encoder = self.model.upstream.encoder
        if encoder is not None and encoder.config.position_frames is not None:
            encoder.positions(encoder.config.position_frames, self.device)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed dropout from (seed, step, rank, batch), so that a resumed run draws the same."""
        place = (self.global_step, self.global_rank, batch_idx)
        torch.manual_seed(seed_of(self.config.seed, "dropout", *place))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of one batch, whose mask depends on (seed, step)."""
        seed = seed_of(self.config.seed, "mask", self.global_step)
        random = self.config.data.positions_start == "random"
        result = reconstruct(self.model, batch, self.config.masking, seed, random_positions=random)
        objective = self.config.objective
        loss = measure_errors(result, objective).loss(objective)
        if self.codes is None or result.last is None:
            return loss
        codes = self.codes.loss(result.last, result.unmasked, result.mask.frames)
        return loss + objective.codes.weight * codes

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what the model is rebuilt from, so that a state can be used as a model."""
        document = self.model.document()
        facts = {"exported": "state", "exported_step": self.global_step}
        document["upstream"]["training"] = {**document["upstream"]["training"], **facts}
        checkpoint[MODEL_ENTRY] = {"document": document, "card": self.model.card(document)}

    def configure_gradient_clipping(self, *_: Any, **__: Any) -> None:
        """Clip the norm of the gradient, which Lightning does not do with a fused optimiser."""
        clip_grad_norm_(self.parameters(), self.config.optimiser.gradient_clip)

    def make_optimiser(self) -> Optimizer:
        """Return AdamW with the settings' learning rate."""
        settings = self.config.optimiser
        return AdamW(
            parameter_groups(self, settings.weight_decay),
            lr=settings.learning_rate,
            # Only these kernels can skip a step without waiting for the device.
            fused=self.config.precision != "16-mixed",
        )

    def configure_optimizers(self) -> Any:
        """Return the optimiser and the schedule that sets its learning rate at every step."""
        optimiser = self.make_optimiser()
        factor = partial(
            learning_rate_factor,
            warmup_steps=self.config.optimiser.count_warmup_steps(self.config.steps),
            steps=self.config.steps,
        )
        scheduler = {"scheduler": LambdaLR(optimiser, factor), "interval": "step"}
        return {"optimizer": optimiser, "lr_scheduler": scheduler}


MakeModule = Callable[[PretrainedModel, PretrainConfig, Codes | None], Pretraining]


def build_pretraining(
    config: PretrainConfig,
    selections: PretrainSelections,
    make_module: MakeModule = Pretraining,
    start: Start | None = None,
) -> Pretraining:
    """Return a fresh model, or that of a `start`, with what it is trained by.

    The same seed gives the same.
    """
    model = build_model(config, selections, start)
    # A loader of its own: the same frames on all ranks.
    loader, _ = make_loaders(config, selections)
    codes = build_codes(config.objective.codes, model, loader, config.seed)
    return make_module(model, config, codes)


@torch.no_grad()
def held_out_loss(
    module: Pretraining,
    loader: Loader,
    ranks: Ranks,
    listener: SignalListener,
) -> Measurement | None:
    """Return the mean error per masked element, or None when some rank received a signal.

    Its products have the precision of training, without which packed batches have no kernel.
    """
    seed, config = seed_of(VALIDATION_SEED, "mask"), module.config
    targets = len(config.objective.targets) or 1
    errors = ErrorSums(*torch.zeros(2, targets, device=module.device))
    dtype = AUTOCAST.get(config.precision)
    for batch in loader:
        if listener.received is not None:
            break
        moved = batch.to(module.device)
        with torch.autocast(module.device.type, dtype, enabled=dtype is not None):
            result = reconstruct(module.model, moved, config.masking, seed)
            errors += measure_errors(result, config.objective)
    stopped = listener.received is not None
    *numbers, signals = ranks.total(*errors.sums.tolist(), *errors.counts.tolist(), stopped)
    if signals:
        return None
    total = ErrorSums(*torch.tensor(numbers).view(2, targets))
    return {"validation_loss": float(total.loss(config.objective))}
