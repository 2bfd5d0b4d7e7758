"""The settings of the front end."""

from dataclasses import dataclass
from typing import Literal

from aalbert.errors import require

# A second of frames; every one of them takes a pass over the features.
MOST_DELTA_FRAMES = 101
Normalisation = Literal["utterance", "speaker", "global", "none"]


@dataclass(frozen=True, kw_only=True)
class FrontEndConfig:
    """The settings of the processing of stored features before the encoder.

    `deltas` is the number of orders of deltas to append, by regression over `delta_window`
    frames. `normalisation` is by mean and variance of each utterance's own real frames, by the
    statistics of each speaker or of the corpus (those of the stored features, before deltas), or
    none. Each frame is the concatenation of the `context` frames around it, and stays one frame;
    each `frames_stacked` frames are concatenated into one.
    """

    feature_dims: int = 80
    deltas: int = 0
    delta_window: int = 5
    normalisation: Normalisation = "utterance"
    context: int = 1
    frames_stacked: int = 1

    def __post_init__(self) -> None:
        for name in ("feature_dims", "frames_stacked"):
            value = getattr(self, name)
            require(value > 0, f"front_end.{name} {value} must be above 0")
        require(0 <= self.deltas <= 2, f"front_end.deltas {self.deltas} must be 0, 1 or 2")
        require(
            3 <= self.delta_window <= MOST_DELTA_FRAMES and self.delta_window % 2 == 1,
            f"front_end.delta_window {self.delta_window} must be odd, 3 to {MOST_DELTA_FRAMES}",
        )
        require_context("front_end", self.context)

    @property
    def input_dims(self) -> int:
        """Numbers per encoder frame."""
        return self.feature_dims * (1 + self.deltas) * self.context * self.frames_stacked


def require_context(group: str, context: int) -> None:
    """Raise `ConfigError` unless a number of frames has one in its middle."""
    require(
        context >= 1 and context % 2 == 1,
        f"{group}.context {context} must be odd: a frame, and as many on either side",
    )
