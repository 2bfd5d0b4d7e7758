"""Predictions: the classes of an utterance, or of its segments or frames, with their scores."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from aalbert.errors import require
from aalbert.shards.format.feature_settings import FeatureSettings

Per = Literal["utterance", "segment", "frame"]


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
    """The classes of a recording of so many seconds: of one segment, the whole, or of several."""

    seconds: float
    segments: tuple[Segment, ...]

    @property
    def classes(self) -> tuple[ClassScore, ...]:
        """The classes of the whole recording; `ConfigError` when only its segments have any."""
        require(
            len(self.segments) == 1,
            f"the prediction has classes of {len(self.segments)} segments, none of the whole "
            "recording: see its segments",
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
    """Return the prediction of a recording from the scores `(classes,)` of all classes."""
    return Prediction(seconds, (Segment(0.0, seconds, best_classes(scores, names, top)),))


def frame_prediction(
    scores: Tensor, names: Sequence[str], borders: Sequence[float], top: int, per: Per
) -> Prediction:
    """Return the prediction of frames from their scores `(frames, classes)`.

    `borders` are the `frames + 1` times at which frames begin and the last one ends.
    """
    edges = range(len(scores) + 1) if per == "frame" else run_edges(scores.argmax(dim=-1))
    segments = [
        Segment(
            borders[first],
            borders[last],
            best_classes(scores[first:last].mean(dim=0), names, top),
        )
        for first, last in pairwise(edges)
    ]
    return Prediction(borders[-1], tuple(segments))


def run_edges(classes: Tensor) -> Iterator[int]:
    """Yield where runs of equal classes begin, and the end of the last one."""
    yield 0
    yield from (torch.nonzero(classes.diff()).flatten() + 1).tolist()
    yield len(classes)


def best_classes(scores: Tensor, names: Sequence[str], top: int) -> tuple[ClassScore, ...]:
    """Return the `top` classes with the highest scores `(classes,)`; of equals the first."""
    best = scores.sort(descending=True, stable=True)
    pairs = zip(best.indices[:top].tolist(), best.values[:top].tolist(), strict=True)
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
