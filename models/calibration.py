"""Scores as log-likelihood ratios, by the score of a trial and the quality of its utterances."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from aalbert.errors import require

# What a calibration may weigh: the score of a trial, and of the measures of quality of both its
# utterances the lower and the higher, so that their order makes no difference.
Measure = Literal[
    "score",
    "lower log seconds",
    "higher log seconds",
    "lower magnitude",
    "higher magnitude",
    "lower cohort mean",
    "higher cohort mean",
]
COHORT_MEASURES: tuple[Measure, ...] = ("lower cohort mean", "higher cohort mean")


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A log-likelihood ratio as a weighted sum of measures of a trial, plus `offset`.

    It was fitted on `trials` dev trials of so many `speakers`, as if the share `target_prior` were
    of one speaker. The head was trained on `trained_speakers` of them, whom it knows better than
    others.
    """

    offset: float
    weights: Mapping[Measure, float]
    target_prior: float
    trials: int
    speakers: int
    trained_speakers: int

    def __post_init__(self) -> None:
        require("score" in self.weights, "a calibration without a weight of the score")
        for name, value in [("offset", self.offset), *self.weights.items()]:
            require(math.isfinite(value), f"{name} {value} of a calibration is not finite")
        prior, trials = self.target_prior, self.trials
        require(0 < prior < 1, f"target_prior {prior} of a calibration is not between 0 and 1")
        require(trials >= 2, f"a calibration on {trials} trials: one of both kinds is needed")
        speakers, trained = self.speakers, self.trained_speakers
        require(speakers >= 2, f"a calibration on {speakers} speakers: trials of two are needed")
        require(
            0 <= trained <= speakers,
            f"trained_speakers {trained} of a calibration on {speakers} speakers",
        )

    @property
    def needs_cohort(self) -> bool:
        """Whether it weighs what utterances score against a cohort."""
        return not self.weights.keys().isdisjoint(COHORT_MEASURES)

    def ratios(self, measures: Mapping[Measure, Tensor]) -> Tensor:
        """Return the natural log-likelihood ratios of trials from their measures, `(trials,)`."""
        total = torch.full_like(measures["score"], self.offset)
        for name, weight in self.weights.items():
            total = total + weight * measures[name]
        return total
