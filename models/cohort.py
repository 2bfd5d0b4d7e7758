"""The normalisation of scores by a cohort: speakers of the training part, whom no trial has.

What an utterance scores against strangers depends on its channel, its noise and its length. The
mean and the deviation of such scores are removed from those of its trials.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aalbert.common.progress import SHORT_WAIT_S, progress_bar
from aalbert.errors import require
from aalbert.models.cohort_settings import CohortSettings

# An utterance that is as similar to all of the cohort has no deviation to divide by.
LEAST_DEVIATION = 1e-6
# Their cosines to 20,000 members are 20 MB.
UTTERANCES_AT_ONCE = 128
# Of the entries of a vector of length 1. Products of coarse parts are multiples of 2**-52, those of
# a coarse and a fine part of 2**-72, whose sums stay below 2**-19 for 10,000 dims: both are exact
# in float64, so that no order of summation rounds otherwise.
COARSE_STEP, FINE_STEP = 2.0**-26, 2.0**-46


class Cohort(nn.Module):
    """The embeddings `(members, dims)` that utterances are compared with, of known speakers.

    `speaker_of (members,)` numbers the speaker of each in the settings.
    """

    embeddings: Tensor
    speaker_of: Tensor

    def __init__(self, settings: CohortSettings, dims: int) -> None:
        super().__init__()
        self.settings = settings
        self.register_buffer("embeddings", torch.zeros(settings.members, dims))
        self.register_buffer("speaker_of", torch.zeros(settings.members, dtype=torch.int64))

    def require_sound(self) -> None:
        """Raise `ConfigError` where tensors that were read are not those of a cohort."""
        require(bool(self.embeddings.isfinite().all()), "embeddings of the cohort are not finite")
        speakers = len(self.settings.speakers)
        numbers = (self.speaker_of >= 0) & (self.speaker_of < speakers)
        require(bool(numbers.all()), f"the cohort has members of none of its {speakers} speakers")

    def statistics(
        self, embeddings: Tensor, speakers: Sequence[str | None] | None = None
    ) -> Tensor:
        """Return the mean and the deviation of the cosines of utterances to the cohort.

        `embeddings` is `(utterances, dims)`, the result `(utterances, 2)` in float64. With the
        `speakers` of the utterances, each is compared with the members of other speakers alone.
        The numbers of an utterance depend on nothing but it and the cohort. Shows its progress
        where it takes long.
        """
        members = Directions.of(F.normalize(self.embeddings.double().cpu(), dim=1))
        owners = self.speaker_of.cpu()
        number_of = {name: number for number, name in enumerate(self.settings.speakers)}
        own = [number_of.get(name or "") for name in speakers or [None] * len(embeddings)]
        found = torch.empty(len(embeddings), 2, dtype=torch.float64)
        total = len(embeddings)
        with progress_bar("cohort", total=total, unit="utterance", delay_s=SHORT_WAIT_S) as bar:
            for first in range(0, total, UTTERANCES_AT_ONCE):
                block = embeddings[first : first + UTTERANCES_AT_ONCE].double().cpu()
                # One by one, since vectors of another length may round otherwise.
                unit = torch.stack([F.normalize(each, dim=0) for each in block])
                cosines = Directions.of(unit).cosines(members)
                with one_thread():
                    for place, each in enumerate(cosines, start=first):
                        number = own[place]
                        others = each if number is None else each[owners != number]
                        found[place] = self.mean_and_deviation(others)
                bar.update(len(block))
        return found

    def mean_and_deviation(self, cosines: Tensor) -> Tensor:
        """Return the mean and the deviation of the highest of the cosines to members, `(2,)`."""
        top = self.settings.top
        closest = cosines.topk(top).values if top < len(cosines) else cosines
        deviation = closest.std(correction=0).clamp(min=LEAST_DEVIATION)
        return torch.stack([closest.mean(), deviation])

    def normalise(self, scores: Tensor, left: Tensor, right: Tensor) -> Tensor:
        """Return scores `(trials,)` by the statistics `(trials, 2)` of both sides of each trial.

        `s-norm` is the mean of the standard scores of both sides (Kenny 2010), `as-norm` the same
        over the closest members of each side (AS-norm1 of Matejka et al. 2017). `z-norm` takes the
        left side alone, the enrolled one, `t-norm` the right one, which is tested (Auckenthaler et
        al. 2000).
        """
        of_left, of_right = ((scores - side[:, 0]) / side[:, 1] for side in (left, right))
        match self.settings.normalisation:
            case "z-norm":
                return of_left
            case "t-norm":
                return of_right
            case _:
                return (of_left + of_right) / 2


@dataclass(frozen=True, eq=False)
class Directions:
    """Vectors of length 1, each the sum of a `coarse` and a `fine` part, `(vectors, dims)`.

    Their entries are multiples of `COARSE_STEP` and `FINE_STEP`.
    """

    coarse: Tensor
    fine: Tensor

    @classmethod
    def of(cls, vectors: Tensor) -> "Directions":
        """Return vectors of length 1, `(vectors, dims)`, as such a sum."""
        coarse = (vectors / COARSE_STEP).round() * COARSE_STEP
        return cls(coarse, ((vectors - coarse) / FINE_STEP).round() * FINE_STEP)

    def cosines(self, others: "Directions") -> Tensor:
        """Return the cosines to others, `(vectors, others)`: the same bits among any vectors."""
        fine = self.coarse @ others.fine.T + self.fine @ others.coarse.T
        return self.coarse @ others.coarse.T + fine


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread: a product rounds differently with another number of them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
