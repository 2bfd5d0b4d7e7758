"""The settings of a cohort that normalises scores."""

from dataclasses import dataclass
from typing import Literal

from aalbert.errors import require

ScoreNormalisation = Literal["as-norm", "s-norm", "z-norm", "t-norm"]


@dataclass(frozen=True, kw_only=True)
class CohortSettings:
    """How a cohort normalises, and the names of its `speakers`; it has `members` embeddings.

    `as-norm` takes the `top` members that are the most similar to an utterance, the others all.
    """

    normalisation: ScoreNormalisation
    top: int
    members: int
    speakers: tuple[str, ...]

    def __post_init__(self) -> None:
        require(self.members >= 2, f"a cohort has {self.members} members: a deviation needs 2")
        require(2 <= self.top <= self.members, f"top {self.top} of {self.members} members: take 2")
        require(len(set(self.speakers)) == len(self.speakers), "a cohort names a speaker twice")
