"""A trained run that labels waves: audio, features, hidden states and head in one object."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, overload

import numpy as np
import torch
from torch import Tensor

from aalbert.errors import InputError, require
from aalbert.models.downstream import DownstreamModel, HeadLayer, Threshold
from aalbert.models.finite import require_finite
from aalbert.models.trial_scorer import Voices, similarity
from aalbert.pipeline.embeddings.load import from_pretrained
from aalbert.pipeline.embeddings.model import EmbeddingModel, Features, WaveLike, as_list
from aalbert.pipeline.prediction.prediction import (
    Per,
    Prediction,
    frame_borders,
    frame_prediction,
    sequence_prediction,
    whole_prediction,
)
from aalbert.shards.format.feature_settings import FeatureSettings

# What is stated without times in a recording.
WITHOUT_TIMES: tuple[Per, ...] = ("utterance", "number")
Item = TypeVar("Item")


@dataclass(frozen=True)
class Similarity:
    """How similar two utterances are, and whether they are taken to be of one speaker.

    `score` is what the run makes of the `cosine` of their embeddings: that itself, or a standard
    score, or a log-likelihood ratio, as `score_is` says. It is compared with the `threshold` that
    the run chose on dev trials; where it had none, both are None.
    """

    score: float
    cosine: float
    score_is: str
    same_speaker: bool | None
    threshold: Threshold | None


class Predictor:
    """A trained run, which predicts classes or numbers, computes embeddings, compares speakers.

    Features have the precision in which shards store them, so the predictions are those that
    `aalbert evaluate` counts.
    """

    def __init__(self, reader: EmbeddingModel, model: DownstreamModel) -> None:
        self.reader = reader
        self.model = model

    def __repr__(self) -> str:
        return f"Predictor({self.reader.place!r}: {self.model.in_words()})"

    @property
    def settings(self) -> FeatureSettings:
        """The settings of the features."""
        return self.reader.settings

    @property
    def classes(self) -> list[str]:
        """The names of the classes; empty for a run that only compares."""
        return self.model.classes

    @property
    def of_frames(self) -> bool:
        """True if every frame is classified, not every utterance."""
        return self.model.head.config.frames

    @property
    def able(self) -> tuple[str, tuple[Per, ...]]:
        """What the run does, in words, and what it can state, by default the first possible."""
        if self.model.predicts == "number":
            return "predicts a number", ("number",)
        if self.model.predicts == "sequence":
            return "recognises sequences", ("segment", "utterance")
        if self.of_frames:
            return "classifies every frame", ("segment", "frame")
        return "classifies every utterance", ("utterance",)

    def predict(
        self, wave: WaveLike, sample_rate: int = 16_000, *, top: int = 1, per: Per | None = None
    ) -> Prediction:
        """Return the `top` classes of a wave `(samples,)` with their scores, the best first.

        `per` says what is classified: a run of utterances classifies the "utterance", one of
        frames every "segment" (the default: frames with the same best class in turn) or every
        "frame"; one of phone sequences gives each phone as a "segment" (the default), or all of
        the "utterance" in one text. A run of numbers gives a "number". For what a wave may be, and
        the errors, see `EmbeddingModel.extract`; raises `ConfigError` when the run has no classes,
        or not of that kind.
        """
        self.require_top(top)
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
        single, waves = as_list(wave)
        read = [(number, self.read(each, sample_rate)[0]) for number, each in enumerate(waves)]
        found = dict(self.outputs(read, self.model.head.embed))
        results = [found[number] for number in range(len(waves))]
        for number, result in enumerate(results):
            require_finite(result, "the wave" if single else f"wave {number}")
        return results[0] if single else results

    def compare(self, left: WaveLike, right: WaveLike, sample_rate: int = 16_000) -> Similarity:
        """Return how similar two waves are; `ConfigError` unless the run is one of verification."""
        self.require_comparison()
        read = [self.read(each, sample_rate)[0] for each in (left, right)]
        found = dict(self.outputs(enumerate(read), self.model.head.embed))
        for number in range(len(read)):
            require_finite(found[number], f"wave {number}")
        voices = self.voices([found[0], found[1]], [len(features) for features in read])
        return self.similarity_of(voices, 0, 1)

    def voices(self, embeddings: Sequence[Tensor], frames: Sequence[int]) -> Voices:
        """Return utterances as they are compared: embeddings `(dims,)`, numbers of frames."""
        shift_ms = self.settings.frame_shift_ms
        seconds = [count * shift_ms / 1000 for count in frames]
        return self.model.scorer.voices(torch.stack(list(embeddings)), seconds)

    def similarity_of(self, voices: Voices, left: int, right: int) -> Similarity:
        """Return how similar the utterances at two places are."""
        one, other = (voices.at(torch.tensor([place])) for place in (left, right))
        scorer, threshold = self.model.scorer, self.model.threshold
        score = float(scorer.score(one, other))
        return Similarity(
            score=score,
            cosine=float(similarity(one.embeddings, other.embeddings)),
            score_is=scorer.describe(),
            same_speaker=None if threshold is None else score >= threshold.score,
            threshold=threshold,
        )

    def require_comparison(self) -> None:
        """Raise `ConfigError` when the run has embeddings that were not made to be compared."""
        model = self.model
        task = model.training_facts.get("task", "another task")
        require(
            model.threshold is not None or model.head.classifier is None,
            f"{self.reader.place} is a run of {task} and chose no threshold for comparisons: give "
            "one of 'aalbert downstream voxceleb1-verification'",
        )

    def choose_per(self, per: Per | None) -> Per:
        """Return what is classified; `ConfigError` when the run cannot classify it."""
        place = self.reader.place
        require(
            self.model.head.classifier is not None,
            f"{place} has no classes, it compares utterances: use 'aalbert compare'",
        )
        does, able = self.able
        timed = self.settings.wave.silence is None
        possible = [each for each in able if timed or each in WITHOUT_TIMES]
        chosen = per or (possible or able)[0]
        way_out = "leave --per out" if able == ("number",) else f"use {' or '.join(able)}"
        require(chosen in able, f"per is {chosen}, and {place} {does}: {way_out}")
        require(
            chosen in possible,
            f"the features of {place} are computed without silence (wave.silence), so the times of "
            "its frames in a recording are unknown",
        )
        return chosen

    def require_top(self, top: int) -> None:
        """Raise `ConfigError` when the run does not have so many classes to state of an item."""
        require(top > 0, f"top {top} must be above 0")
        require(
            top == 1 or self.model.predicts == "classes",
            f"top is {top}, and {self.reader.place} {self.able[0]}, of which it states the best "
            "alone: use 1",
        )

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

        They are on the CPU, as the head gives them: logits, of which the softmax is stated, or a
        number `(1,)`.
        """
        for item, scores in self.outputs(utterances, self.model.head):
            yield item, scores.cpu()

    def outputs(
        self, utterances: Iterable[tuple[Item, Features]], layer: HeadLayer
    ) -> Iterator[tuple[Item, Tensor]]:
        """Yield what a layer of the head gives for every utterance, in any order."""
        tensors = ((item, torch.from_numpy(features)) for item, features in utterances)
        for items, outputs, lengths in self.model.outputs_of_each(tensors, layer):
            for item, output, length in zip(items, outputs, lengths.tolist(), strict=True):
                yield item, output[:length] if self.of_frames else output

    def describe(self, scores: Tensor, seconds: float, top: int, per: Per) -> Prediction:
        """Return the prediction that scores are; see `predict`."""
        if per == "number":
            return Prediction(per, seconds, (), float(scores))
        if self.model.predicts == "classes" and per == "utterance":
            return whole_prediction(scores, self.classes, seconds, top)
        stacked = self.reader.upstream.config.front_end.frames_stacked
        borders = frame_borders(self.settings, len(scores), stacked, seconds)
        if self.model.predicts == "sequence":
            return sequence_prediction(scores, self.classes, borders, per)
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
