"""A trained run that labels waves: audio, features, hidden states and head in one object."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, overload

import numpy as np
import torch
from torch import Tensor

from aalbert.errors import InputError, require
from aalbert.models.downstream import DownstreamModel, Threshold, similarity
from aalbert.models.finite import require_finite
from aalbert.models.static_batches import StaticShapes, static_batches
from aalbert.pipeline.embeddings.load import from_pretrained
from aalbert.pipeline.embeddings.model import EmbeddingModel, Features, WaveLike, listed
from aalbert.pipeline.prediction.prediction import (
    Per,
    Prediction,
    frame_borders,
    frame_prediction,
    whole_prediction,
)
from aalbert.shards.format.feature_settings import FeatureSettings

Item = TypeVar("Item")
# What a layer of the head makes of hidden states and the numbers of their frames.
Layer = Callable[[Sequence[Tensor], Tensor], Tensor]


@dataclass(frozen=True)
class Similarity:
    """How similar two utterances are, and whether they are taken to be of one speaker.

    `score` is the cosine of their embeddings. It is compared with the `threshold` that the run
    chose on dev trials; where it had none, both are None.
    """

    score: float
    same_speaker: bool | None
    threshold: Threshold | None


class Predictor:
    """A trained run, which predicts classes, computes embeddings, and compares speakers.

    Features have the precision in which shards store them, so the predictions are those that
    `aalbert evaluate` counts.
    """

    def __init__(self, reader: EmbeddingModel, model: DownstreamModel) -> None:
        self.reader = reader
        self.model = model

    @property
    def settings(self) -> FeatureSettings:
        """The settings of the features."""
        return self.reader.settings

    @property
    def classes(self) -> list[str]:
        """The names of the classes; empty for a run that only compares."""
        return self.model.classes

    @property
    def frames(self) -> bool:
        """True if every frame is classified, not every utterance."""
        return self.model.head.config.frames

    def predict(
        self, wave: WaveLike, sample_rate: int = 16_000, *, top: int = 1, per: Per | None = None
    ) -> Prediction:
        """Return the `top` classes of a wave `(samples,)` with their scores, the best first.

        `per` says what is classified: a run of utterances classifies the "utterance", one of
        frames every "segment" (the default: frames with the same best class in turn) or every
        "frame". For what a wave may be, and the errors, see `EmbeddingModel.extract`; raises
        `ConfigError` when the run has no classes, or not of that kind.
        """
        per = self.choose_per(per)
        features, seconds = self.read(wave, sample_rate)
        [(_, scores)] = self.score([(None, features)])
        require_finite(scores, "the wave")
        return self.describe(scores, seconds, top, per)

    @overload
    def embed(self, wave: list[WaveLike], sample_rate: int = ...) -> list[Tensor]: ...
    @overload
    def embed(self, wave: WaveLike, sample_rate: int = ...) -> Tensor: ...
    def embed(
        self, wave: WaveLike | list[WaveLike], sample_rate: int = 16_000
    ) -> Tensor | list[Tensor]:
        """Return the embedding `(dims,)` of a wave, or a list of those of a list of waves.

        It is what the classifier reads, or, in a run of verification, what is compared; of a run
        that classifies frames `(frames, dims)`. Waves and errors: see `EmbeddingModel.extract`.
        """
        single, waves = listed(wave)
        read = [(number, self.read(each, sample_rate)[0]) for number, each in enumerate(waves)]
        found = dict(self.outputs(read, self.model.head.embed))
        results = [found[number] for number in range(len(waves))]
        for number, result in enumerate(results):
            require_finite(result, "the wave" if single else f"wave {number}")
        return results[0] if single else results

    def compare(self, left: WaveLike, right: WaveLike, sample_rate: int = 16_000) -> Similarity:
        """Return how similar two waves are; `ConfigError` unless the run is one of verification."""
        self.require_comparison()
        embeddings: list[Tensor] = self.embed([left, right], sample_rate)
        return self.similarity_of(*embeddings)

    def similarity_of(self, left: Tensor, right: Tensor) -> Similarity:
        """Return how similar two utterances are by their embeddings `(dims,)`."""
        score = float(similarity(left.unsqueeze(0), right.unsqueeze(0)))
        threshold = self.model.threshold
        return Similarity(score, None if threshold is None else score >= threshold.score, threshold)

    def require_comparison(self) -> None:
        """Raise `ConfigError` when the run has embeddings that were not made to be compared."""
        model = self.model
        require(
            model.threshold is not None or model.head.classifier is None,
            f"{self.reader.place} classifies, and has no threshold for a comparison: give a run of "
            "'aalbert downstream voxceleb1-verification'",
        )

    def choose_per(self, per: Per | None) -> Per:
        """Return what is classified; `ConfigError` when the run cannot classify it."""
        place = self.reader.place
        require(
            self.model.head.classifier is not None,
            f"{place} has no classes, it compares utterances: use 'aalbert compare'",
        )
        able: tuple[Per, ...] = ("segment", "frame") if self.frames else ("utterance",)
        chosen = able[0] if per is None else per
        require(
            chosen in able,
            f"per is {chosen}, and {place} classifies every "
            f"{'frame' if self.frames else 'utterance'}: use {' or '.join(able)}",
        )
        require(
            not self.frames or self.settings.wave.silence is None,
            f"the features of {place} are computed without silence (wave.silence), so the times of "
            "its frames in a recording are unknown",
        )
        return chosen

    def read(self, wave: WaveLike, sample_rate: int) -> tuple[Features, float]:
        """Return the features of a wave `(samples,)` and its seconds."""
        rate = self.settings.sample_rate
        samples = self.reader.samples_of(wave, sample_rate)
        return as_stored(self.reader.features(samples, rate)), len(samples) / rate

    def features_of(self, samples: Features) -> Features:
        """Return the features of samples at the run's rate, as exact as shards store them."""
        return as_stored(self.reader.features_of(samples))

    def score(self, utterances: Iterable[tuple[Item, Features]]) -> Iterator[tuple[Item, Tensor]]:
        """Yield the scores `(classes,)`, or `(frames, classes)`, of every utterance, in any order.

        They are on the CPU and sum to one over the classes.
        """
        for item, scores in self.outputs(utterances, self.model.head):
            yield item, scores.float().cpu().softmax(dim=-1)

    @torch.no_grad()
    def outputs(
        self, utterances: Iterable[tuple[Item, Features]], layer: Layer
    ) -> Iterator[tuple[Item, Tensor]]:
        """Yield what a layer of the head gives for every utterance, in any order."""
        device = self.reader.device
        stacked = self.model.upstream.config.front_end.frames_stacked
        tensors = ((item, torch.from_numpy(features)) for item, features in utterances)
        for batch in static_batches(tensors, StaticShapes.on(device, stacked)):
            moved = batch.features.to(device), batch.lengths.to(device)
            states, lengths = self.model.states(*moved)
            outputs = layer(states, lengths)
            for item, output, length in zip(batch.items, outputs, lengths.tolist(), strict=False):
                yield item, output[:length] if self.frames else output

    def describe(self, scores: Tensor, seconds: float, top: int, per: Per) -> Prediction:
        """Return the prediction that scores are; see `predict`."""
        if per == "utterance":
            return whole_prediction(scores, self.classes, seconds, top)
        stacked = self.model.upstream.config.front_end.frames_stacked
        borders = frame_borders(self.settings, len(scores), stacked, seconds)
        return frame_prediction(scores, self.classes, borders, top, per)


def as_stored(features: Features) -> Features:
    """Return features `(frames, dims)` with the precision that they have in shards."""
    return features.astype(np.float16).astype(np.float32)


def load(place: Path | str, device: str | None = "cpu") -> Predictor:
    """Open a trained run to predict with it: its folder, a saved copy of it, or a URL.

    Without a `device` it is on a GPU, if there is one. Raises `InputError` when there is no model,
    or one without a head, `IntegrityError` when it is damaged, `ConfigError` for a missing device.
    """
    reader = from_pretrained(place, device)
    if not isinstance(reader.model, DownstreamModel):
        raise InputError(
            f"{reader.place} has no head that was trained on labels: train one with 'aalbert "
            f"downstream TASK --upstream {reader.place}', or read its hidden states with 'aalbert "
            "extract'"
        )
    return Predictor(reader, reader.model)
