"""Predictions: classes of an utterance, its segments or its frames with scores, or a number."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from aalbert.errors import require
from aalbert.shards.format.feature_settings import FeatureSettings

# What is stated: classes of the utterance, of segments or of frames, or a number of the utterance.
Per = Literal["utterance", "segment", "frame", "number"]


@dataclass(frozen=True)
class ClassScore:
    """A class and its score, the softmax over all classes."""

    name: str
    score: float


@dataclass(frozen=True)
class Segment:
    """A stretch from `start` to `end` seconds, and its classes with the best first.

    A frame is the stretch in which its centre is the nearest. Where frames follow one another
    with the same best class they are one segment, whose scores are the means over its frames.
    """

    start: float
    end: float
    classes: tuple[ClassScore, ...]

    @property
    def name(self) -> str:
        """The best class."""
        return self.classes[0].name

    @property
    def score(self) -> float:
        """The score of the best class."""
        return self.classes[0].score


@dataclass(frozen=True)
class Prediction:
    """The classes of a recording of so many seconds, of the whole or `per` segment or frame.

    A run that predicts numbers gives the `number` of the recording, and no segments.
    """

    per: Per
    seconds: float
    segments: tuple[Segment, ...]
    number: float | None = None

    @property
    def classes(self) -> tuple[ClassScore, ...]:
        """The classes of the whole recording; `ConfigError` when only its segments have any."""
        require(
            self.per == "utterance",
            f"the prediction is per {self.per}, it has no classes of the whole recording: see its "
            f"{'number' if self.per == 'number' else 'segments'}",
        )
        return self.segments[0].classes

    @property
    def name(self) -> str:
        """The best class of the whole recording."""
        return self.classes[0].name

    @property
    def score(self) -> float:
        """The score of the best class of the whole recording."""
        return self.classes[0].score


def whole_prediction(scores: Tensor, names: Sequence[str], seconds: float, top: int) -> Prediction:
    """Return the prediction of a recording from the logits `(classes,)` of all classes."""
    whole = Segment(0.0, seconds, best_classes(scores.unsqueeze(0), names, top))
    return Prediction("utterance", seconds, (whole,))


def frame_prediction(
    scores: Tensor, names: Sequence[str], borders: Sequence[float], top: int, per: Per
) -> Prediction:
    """Return the prediction of frames from their logits `(frames, classes)`.

    `borders` are the `frames + 1` times at which frames begin and the last one ends.
    """
    edges = range(len(scores) + 1) if per == "frame" else run_edges(scores.argmax(dim=-1))
    segments = [
        Segment(borders[first], borders[last], best_classes(scores[first:last], names, top))
        for first, last in pairwise(edges)
    ]
    return Prediction(per, borders[-1], tuple(segments))


def sequence_prediction(
    scores: Tensor, names: Sequence[str], borders: Sequence[float], per: Per
) -> Prediction:
    """Return the prediction of a sequence of classes from logits `(frames, classes + 1)` of CTC.

    Its segments are the frames in turn of which a class is the best, without those of the blank,
    which is the last class. Per utterance it is one class: all names between spaces, whose score
    is the mean of theirs.
    """
    best = scores.argmax(dim=-1)
    spoken = tuple(
        Segment(borders[first], borders[last], best_classes(scores[first:last], [*names, ""], 1))
        for first, last in pairwise(run_edges(best))
        if best[first] < len(names)
    )
    if per == "segment":
        return Prediction(per, borders[-1], spoken)
    score = sum(run.score for run in spoken) / max(1, len(spoken))
    whole = ClassScore(" ".join(run.name for run in spoken), score)
    return Prediction(per, borders[-1], (Segment(0.0, borders[-1], (whole,)),))


def run_edges(classes: Tensor) -> Iterator[int]:
    """Yield where runs of equal classes begin, and the end of the last one."""
    yield 0
    yield from (torch.nonzero(classes.diff()).flatten() + 1).tolist()
    yield len(classes)


def best_classes(scores: Tensor, names: Sequence[str], top: int) -> tuple[ClassScore, ...]:
    """Return the `top` best classes of frames by their logits `(frames, classes)`.

    They are in the order of the mean logits, the first of equals first, as `evaluate` decides:
    the softmax of two that are close may be equal. It is stated, as its mean over the frames.
    """
    best = scores.mean(dim=0).sort(descending=True, stable=True).indices[:top]
    stated = scores.softmax(dim=-1).mean(dim=0)[best]
    pairs = zip(best.tolist(), stated.tolist(), strict=True)
    return tuple(ClassScore(names[number], score) for number, score in pairs)


def frame_borders(
    settings: FeatureSettings, frames: int, frames_stacked: int, seconds: float
) -> list[float]:
    """Return the times in seconds at which frames begin, and the end of the last one.

    A border lies half-way between two centres; the first frame begins with the recording and
    the last one ends with it.
    """
    centres = settings.centres_ms(np.arange(frames) * frames_stacked + (frames_stacked - 1) / 2)
    inner = np.minimum((centres[1:] + centres[:-1]) / 2000, seconds)
    return [0.0, *np.round(inner, 6).tolist(), seconds]
