"""When the frames of hidden states are in a recording."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class FrameTimes:
    """The centre of the first frame, and the time from one frame to the next, in ms."""

    first_ms: float
    shift_ms: float
