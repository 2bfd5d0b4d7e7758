"""The score of trials: the cosine of two embeddings, then normalised, then calibrated."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from aalbert.models.calibration import Calibration, Measure
from aalbert.models.cohort import Cohort

COSINE = "cosine"


@dataclass(frozen=True, eq=False, kw_only=True)
class Voices:
    """Utterances to compare, each once: all that the scores of their trials are made of.

    `embeddings` is `(utterances, dims)`, `log_seconds` and `magnitudes` are `(utterances,)`;
    `against_cohort (utterances, 2)` has the mean and the deviation of an utterance's scores
    against the cohort, and is None without one.
    """

    embeddings: Tensor
    log_seconds: Tensor
    magnitudes: Tensor
    against_cohort: Tensor | None = None

    def followed_by(self, others: "Voices") -> "Voices":
        """Return these utterances and then others, of the same scorer."""
        mine, theirs = self.against_cohort, others.against_cohort
        return Voices(
            embeddings=torch.cat([self.embeddings, others.embeddings]),
            log_seconds=torch.cat([self.log_seconds, others.log_seconds]),
            magnitudes=torch.cat([self.magnitudes, others.magnitudes]),
            against_cohort=None if mine is None or theirs is None else torch.cat([mine, theirs]),
        )

    def at(self, places: Tensor) -> "Voices":
        """Return the utterances at some places, which may repeat."""
        against = self.against_cohort
        return Voices(
            embeddings=self.embeddings[places],
            log_seconds=self.log_seconds[places],
            magnitudes=self.magnitudes[places],
            against_cohort=None if against is None else against[places],
        )


@dataclass(frozen=True, eq=False)
class TrialScorer:
    """What compares utterances: a cohort and a calibration, or neither.

    Its numbers depend on nothing but the two utterances: they are the same in every bit for one
    trial and among others.
    """

    cohort: Cohort | None = None
    calibration: Calibration | None = None

    def describe(self) -> str:
        """Return what a score is, in words."""
        score = COSINE if self.calibration is None else "log-likelihood ratio"
        return (
            score if self.cohort is None else f"{score} after {self.cohort.settings.normalisation}"
        )

    def voices(
        self,
        embeddings: Tensor,
        seconds: Sequence[float],
        speakers: Sequence[str | None] | None = None,
    ) -> Voices:
        """Return utterances as they are compared, from embeddings `(utterances, dims)`.

        `speakers`, where they are known, keep utterances from being compared with their own
        speaker in the cohort.
        """
        embeddings = embeddings.float().cpu()
        # One by one, since vectors of another length may round otherwise.
        magnitudes = [float(each.norm()) for each in embeddings.double()]
        return Voices(
            embeddings=embeddings,
            log_seconds=torch.tensor([math.log(each) for each in seconds], dtype=torch.float64),
            magnitudes=torch.tensor(magnitudes, dtype=torch.float64),
            against_cohort=None
            if self.cohort is None
            else self.cohort.statistics(embeddings, speakers),
        )

    def score(self, left: Voices, right: Voices) -> Tensor:
        """Return the scores of trials of the utterances at the same places, `(trials,)`."""
        normalised = self.normalise(left, right)
        if self.calibration is None:
            return normalised
        return self.calibration.ratios(measures_of(normalised, left, right))

    def normalise(self, left: Voices, right: Voices) -> Tensor:
        """Return the scores before they are calibrated."""
        cosines = similarity(left.embeddings, right.embeddings)
        if self.cohort is None:
            return cosines
        assert left.against_cohort is not None and right.against_cohort is not None
        return self.cohort.normalise(cosines, left.against_cohort, right.against_cohort)


def measures_of(scores: Tensor, left: Voices, right: Voices) -> dict[Measure, Tensor]:
    """Return what a calibration may weigh, `(trials,)` each.

    The measures of quality are those of Thienpondt et al. (2021): the duration, the magnitude of
    the embedding, and the mean score against impostors, which needs a cohort.
    """
    measures: dict[Measure, Tensor] = {
        "score": scores,
        "lower log seconds": torch.minimum(left.log_seconds, right.log_seconds),
        "higher log seconds": torch.maximum(left.log_seconds, right.log_seconds),
        "lower magnitude": torch.minimum(left.magnitudes, right.magnitudes),
        "higher magnitude": torch.maximum(left.magnitudes, right.magnitudes),
    }
    if left.against_cohort is not None and right.against_cohort is not None:
        means = left.against_cohort[:, 0], right.against_cohort[:, 0]
        measures["lower cohort mean"] = torch.minimum(*means)
        measures["higher cohort mean"] = torch.maximum(*means)
    return measures


def similarity(left: Tensor, right: Tensor) -> Tensor:
    """Return the cosine of embeddings `(..., dims)` in float64, `(...)`."""
    left, right = (F.normalize(side.double(), dim=-1) for side in (left, right))
    return (left * right).sum(dim=-1)
