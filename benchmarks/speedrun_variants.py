"""What the race tries that is no setting: other optimisers, averaged weights, codes alone."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW, Muon, Optimizer

from aalbert.models.pretrained import PretrainedModel
from aalbert.shards.loading.batch import Batch
from aalbert.train.loop.optimiser import parameter_groups
from aalbert.train.pretraining.codes import Codes
from aalbert.train.pretraining.config import PretrainConfig
from aalbert.train.pretraining.module import Pretraining
from aalbert.train.pretraining.reconstruction import reconstruct
from aalbert.train.randomness import seed_of

MUON_LEARNING_RATE = 3e-3
AVERAGED_STEPS = 200


class Together(Optimizer):
    """Optimisers of different parameters as one, whose groups have all their groups."""

    def __init__(self, *optimisers: Optimizer) -> None:
        groups = [group for optimiser in optimisers for group in optimiser.param_groups]
        super().__init__(groups, {})
        # The same dictionaries: a schedule that changes a rate here changes it there.
        self.param_groups = groups
        self.optimisers = optimisers

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take a step of each optimiser; the closure computes the gradient of all."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for optimiser in self.optimisers:
            optimiser.step()
        return loss


class MuonPretraining(Pretraining):
    """Muon (Jordan et al. 2024) for the matrices of the encoder's layers, AdamW for the rest."""

    def make_optimiser(self) -> Optimizer:
        """Return both optimisers as one."""
        settings = self.config.optimiser
        encoder = self.model.upstream.encoder
        assert encoder is not None
        matrices = [weight for weight in encoder.layers.parameters() if weight.ndim == 2]
        hidden = {id(weight) for weight in matrices}
        groups = parameter_groups(self.model, settings.weight_decay)
        for group in groups:
            group["params"] = [weight for weight in group["params"] if id(weight) not in hidden]
        return Together(
            Muon(matrices, lr=MUON_LEARNING_RATE, weight_decay=settings.weight_decay),
            AdamW(groups, lr=settings.learning_rate, fused=True),
        )


class AveragedPretraining(Pretraining):
    """An exponential average of the weights is what is measured, saved and exported."""

    def __init__(
        self, model: PretrainedModel, config: PretrainConfig, codes: Codes | None = None
    ) -> None:
        super().__init__(model, config, codes)
        self.trained = copy.deepcopy(model)
        model.requires_grad_(False)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of the weights that are trained."""
        averaged, self.model = self.model, self.trained
        loss = super().training_step(batch, batch_idx)
        self.model = averaged
        return loss

    @torch.no_grad()
    def on_train_batch_end(self, *_: Any, **__: Any) -> None:
        """Move the average towards the trained weights, faster at the beginning."""
        share = max(1 / AVERAGED_STEPS, 1 / (self.global_step + 1))
        pairs = zip(self.model.parameters(), self.trained.parameters(), strict=True)
        for average, weight in pairs:
            average.lerp_(weight, share)


class CodesAlone(Pretraining):
    """The codes of hidden frames are predicted, and nothing is reconstructed."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of the codes."""
        seed = seed_of(self.config.seed, "mask", self.global_step)
        result = reconstruct(self.model, batch, self.config.masking, seed)
        assert self.codes is not None and result.last is not None
        return self.codes.loss(result.last, result.unmasked, result.mask.frames)
