"""Trivial predictors of hidden frames: what a model has to be better than to have learned anything.

They are measured once in a run, on the held-out crops, masks, elements and loss of the model.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from aalbert.errors import IntegrityError
from aalbert.models.front_end import FrontEnd
from aalbert.models.pretrained import PretrainedModel
from aalbert.shards.loading.loader import Loader
from aalbert.train.loop.ranks import Ranks
from aalbert.train.loop.stop_signals import SignalListener
from aalbert.train.loop.validation import Measurement
from aalbert.train.pretraining.config import PretrainConfig
from aalbert.train.pretraining.linear_predictor import LinearPredictor, fit_linear_predictor
from aalbert.train.pretraining.loss import ErrorSums
from aalbert.train.pretraining.reconstruction import (
    VALIDATION_SEED,
    Reconstruction,
    mask_batch,
    measure_errors,
)
from aalbert.train.pretraining.visible_frames import (
    VisibleFrames,
    average,
    find_visible,
    interpolate,
    interpolate_bands,
    take_nearest,
)
from aalbert.train.randomness import seed_of
from aalbert.train.run_folder import RECORD_WAY_OUT, RunFolder

# Their entry in the record of a run.
TRIVIAL_PREDICTORS = "trivial_predictors"

Predict = Callable[[Tensor, VisibleFrames, Tensor], Tensor]
# A target is predicted from its own visible frames and the mean of the corpus.
FROM_TARGET: Mapping[str, Predict] = {
    "interpolation": interpolate,
    "nearest_frame": take_nearest,
    "utterance_mean": average,
    "corpus_mean": lambda values, visible, mean: mean.expand_as(values),
}
# All of them, from the one that is hardest to beat.
DESCRIPTIONS = {
    "linear": "the best linear predictor from the frames around",
    "interpolation": "a line between the nearest visible frames",
    "nearest_frame": "the nearest visible frame",
    "utterance_mean": "the mean of the utterance's visible frames",
    "corpus_mean": "the mean of the corpus",
}


class HeldOutMeasurement:
    """Measures the held-out loss, and before the first one the trivial predictors.

    These are noted in `run.json`, where a resumed run finds them. Both functions return None when
    a signal interrupted them, and so does a call of this.
    """

    def __init__(
        self,
        run: RunFolder,
        ranks: Ranks,
        measure_predictors: Callable[[], Measurement | None],
        measure_loss: Callable[[], Measurement | None],
    ) -> None:
        self.run = run
        self.ranks = ranks
        self.measure_predictors = measure_predictors
        self.measure_loss = measure_loss
        # The record is that of the first rank, which may have no folder in common with others.
        self.noted = ranks.first and TRIVIAL_PREDICTORS in run.read_record()
        self.agreed = False

    def __call__(self) -> Measurement | None:
        """Return the held-out loss."""
        if not self.agreed:
            self.noted, self.agreed = self.ranks.gather(self.noted)[0], True
        if not self.noted:
            losses = self.measure_predictors()
            if losses is None:
                return None
            if self.ranks.first:
                self.run.add_to_record({TRIVIAL_PREDICTORS: losses})
            self.noted = True
        return self.measure_loss()


@torch.no_grad()
def measure_trivial_predictors(
    model: PretrainedModel,
    config: PretrainConfig,
    loaders: tuple[Loader, Loader],
    ranks: Ranks,
    listener: SignalListener,
) -> Measurement | None:
    """Return the held-out loss of each predictor, or None when some rank received a signal.

    `loaders` are those of the training and of the held-out utterances. The linear predictor is
    fitted on training utterances from the beginning of an order of its own, the same on all ranks
    and in all runs; the loader's position stays.
    """
    training, held_out = loaders
    device = next(model.parameters()).device
    order = replace(training.config, seed=VALIDATION_SEED, prefetch=0)
    beginning = Loader(training.selections, order)
    linear = fit_linear_predictor(model, config.masking, beginning, device, listener)
    seed, targets = seed_of(VALIDATION_SEED, "mask"), len(config.objective.targets) or 1
    totals = torch.zeros(len(DESCRIPTIONS), 2, targets, device=device)
    for batch in held_out:
        if listener.received is not None:
            break
        masked = mask_batch(model, batch.to(device), config.masking, seed)
        for total, (_, predicted) in zip(
            totals, predict_trivially(masked, model, linear), strict=True
        ):
            errors = measure_errors(replace(masked, predicted=predicted), config.objective)
            total += torch.stack([errors.sums, errors.counts])
    stopped = listener.received is not None
    *numbers, signals = ranks.total(*totals.flatten().tolist(), stopped)
    if signals:
        return None
    return {
        name: float(ErrorSums(*total).loss(config.objective))
        for name, total in zip(DESCRIPTIONS, torch.tensor(numbers).view(totals.shape), strict=True)
    }


def predict_trivially(
    masked: Reconstruction, model: PretrainedModel, linear: LinearPredictor
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield each of `DESCRIPTIONS` with its predictions, which have the shapes of the targets.

    A target is predicted from its own visible frames, even if the encoder reads another feature;
    the linear predictor reads what the encoder reads. A visible frame is predicted as it is, except
    by the means. Of a hidden band nothing is visible in any frame: all predict the line between the
    dimensions on both sides of it.
    """
    visible = find_visible(masked.frames, masked.mask, linear.stacked)
    means = {name: corpus_mean(model, name) for name in masked.targets}
    for name in DESCRIPTIONS:
        predicted = {}
        if name == "linear":
            predicted = linear.predict(masked, visible)
        else:
            for feature, target in masked.targets.items():
                values = target.view(len(visible.visible), -1)
                values = FROM_TARGET[name](values, visible, means[feature])
                predicted[feature] = values.reshape_as(target)
        bands, read = masked.mask.bands, masked.feature
        if bands is not None and read in predicted:
            values = predicted[read].view(len(visible.visible), -1)
            values = interpolate_bands(values, bands, visible.utterance, means[read])
            predicted[read] = values.view_as(predicted[read])
        yield name, predicted


def corpus_mean(model: PretrainedModel, feature: str) -> Tensor:
    """Return the mean `(dims,)` of a normalised target over the training utterances."""
    front_end = model.target_front_ends[feature]
    assert isinstance(front_end, FrontEnd)
    none = front_end.config.normalisation == "none"
    return front_end.mean if none else torch.zeros_like(front_end.mean)


def recorded_predictors(run: RunFolder) -> dict[str, float]:
    """Return the losses in the record of a run; `IntegrityError` when it lacks them."""
    losses: dict[str, float] = run.read_record().get(TRIVIAL_PREDICTORS, {})
    if losses.keys() != DESCRIPTIONS.keys():
        raise IntegrityError(
            f"{run.record} has not the losses of {', '.join(DESCRIPTIONS)} in "
            f"{TRIVIAL_PREDICTORS}; {RECORD_WAY_OUT}"
        )
    return losses


def compare_in_words(held_out_loss: float, predictors: Mapping[str, float]) -> str:
    """Return a sentence on whether a model is better than the trivial predictors."""
    line, linear = predictors["interpolation"], predictors["linear"]
    if not held_out_loss < line:
        return (
            f"the held-out loss {held_out_loss:.4f} is not below that of interpolating between the "
            f"nearest visible frames ({line:.4f}): the model predicts hidden frames no better than "
            "a line between their neighbours; train longer, or see docs/pretrain.md"
        )
    place = "below" if held_out_loss < linear else "not below"
    return (
        f"the held-out loss {held_out_loss:.4f} is below that of interpolating between the nearest "
        f"visible frames ({line:.4f}), and {place} that of the best linear predictor ({linear:.4f})"
    )
