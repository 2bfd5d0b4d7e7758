"""Wave settings: what is done to a wave before its features are computed."""

import math
from dataclasses import dataclass

from aalbert.errors import require


@dataclass(frozen=True, kw_only=True)
class SilenceSettings:
    """Which silence is cut out of a wave before its features are computed.

    The wave is cut into windows of `window_ms` that do not overlap; the last one may be
    shorter. A window is silent when its RMS lies `threshold_db` or more below that of the
    loudest one. Of the silence at either end the `edge_ms` next to the sound stay; of inner
    silence that lasts longer than `inner_ms` so much stays, half of it at each side.
    """

    threshold_db: float = 40.0
    window_ms: float = 20.0
    edge_ms: float = 100.0
    inner_ms: float = 300.0

    def __post_init__(self) -> None:
        """Refuse what has no meaning."""
        for name in ("threshold_db", "window_ms"):
            value = getattr(self, name)
            require(0 < value < math.inf, f"silence.{name} is {value}: it must be above 0")
        for name in ("edge_ms", "inner_ms"):
            value = getattr(self, name)
            require(0 <= value < math.inf, f"silence.{name} is {value}: it must not be negative")


@dataclass(frozen=True, kw_only=True)
class WaveSettings:
    """What is done to a wave before its features are computed, in this order.

    Silence is cut; the wave is multiplied by `10 ** (gain_db / 20)`; and it is multiplied by
    `10 ** (loudness_db / 20) / (rms + 1e-10)`, so that its RMS lies `loudness_db` (negative)
    below full scale, as s3prl does with -25. Values beyond full scale stay as they are: floats
    need no clipping. By default nothing is done.
    """

    silence: SilenceSettings | None = None
    gain_db: float = 0.0
    loudness_db: float | None = None

    def __post_init__(self) -> None:
        """Refuse what has no meaning."""
        require(abs(self.gain_db) <= 100, f"wave.gain_db is {self.gain_db}: it must be -100 to 100")
        require(
            self.loudness_db is None or -100 <= self.loudness_db <= 0,
            f"wave.loudness_db is {self.loudness_db}: it must be -100 to 0",
        )
