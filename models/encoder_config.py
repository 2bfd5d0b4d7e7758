"""The settings of an encoder."""

import math
from dataclasses import dataclass
from typing import Literal

from aalbert.errors import require

# A shared layer can be applied any number of times, at the cost of time alone.
MOST_LAYERS = 1_000


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """The settings of an encoder. `layers` counts applications, shared or not.

    Inputs are projected to the `width`, with `input_width` by way of a hidden layer of that many
    units, shared over frames: a narrow encoder has too few numbers for stacked frames otherwise.

    `share_query_key` gives queries and keys one projection. `norm` sets the position of layer
    norms: after each residual connection ("post"), or before attention and feed-forward network
    and on every returned state ("pre").

    `positions` are sinusoids or a learned table, which are added to the input, or rotations of
    queries and keys, by which attention depends on distances alone ("rotary", Su et al. 2021, arXiv
    2104.09864). The first `position_frames` are known to the weights: pretraining sets it to what
    it trains, None is no limit. Longer utterances are cut into chunks of at most so many frames
    that are encoded separately ("restart", as in s3prl), or positions continue ("continue"), with a
    warning, since states at positions that were never trained are worse than none.

    `attention_dropout` is the dropout of attention probabilities, by default `dropout`.
    `initial_std` is the standard deviation of the initial weights, by default `default_std`.
    """

    layers: int = 3
    share_layers: bool = True
    share_query_key: bool = False
    input_width: int | None = None
    width: int = 768
    heads: int = 12
    feed_forward_width: int = 3072
    activation: Literal["gelu", "relu"] = "gelu"
    norm: Literal["post", "pre"] = "post"
    positions: Literal["sinusoidal", "learned", "rotary"] = "sinusoidal"
    position_frames: int | None = None
    beyond_positions: Literal["continue", "restart"] = "restart"
    dropout: float = 0.1
    attention_dropout: float | None = None
    initial_std: float | None = None

    def __post_init__(self) -> None:
        sizes = ("layers", "input_width", "width", "heads", "feed_forward_width")
        for name in (*sizes, "position_frames", "initial_std"):
            value = getattr(self, name)
            require(value is None or value > 0, f"encoder.{name} {value} must be above 0")
        require(
            self.layers <= MOST_LAYERS,
            f"encoder.layers {self.layers} must not be above {MOST_LAYERS:,}",
        )
        for name in ("dropout", "attention_dropout"):
            value = getattr(self, name)
            require(value is None or 0 <= value < 1, f"encoder.{name} {value} must be in [0, 1)")
        require(
            self.width % self.heads == 0 and self.width % 2 == 0,
            f"encoder.width {self.width} must be even and a multiple of encoder.heads {self.heads}",
        )
        require(
            self.positions != "learned" or self.beyond_positions == "restart",
            "encoder.positions learned end after encoder.position_frames: "
            "set encoder.beyond_positions to restart",
        )
        require(
            self.positions != "rotary" or self.width // self.heads % 2 == 0,
            f"encoder.positions rotary turn pairs of numbers: encoder.width {self.width} divided "
            f"by encoder.heads {self.heads} must be even",
        )

    @property
    def probability_dropout(self) -> float:
        """The dropout of attention probabilities."""
        return self.dropout if self.attention_dropout is None else self.attention_dropout

    @property
    def chunk_frames(self) -> int | None:
        """The length above which utterances are cut into chunks, None if they never are."""
        return self.position_frames if self.beyond_positions == "restart" else None

    @property
    def weight_std(self) -> float:
        """The standard deviation of the initial weights."""
        return default_std(self.width) if self.initial_std is None else self.initial_std


def default_std(width: int) -> float:
    """Return BERT's 0.02 at its width of 768, and `0.02 sqrt(768 / width)` at another.

    The sums over `width` products then have the same size at every width, and with them what a
    layer adds to its input; a narrow encoder with 0.02 stays long on its initial plateau.
    """
    return 0.02 * math.sqrt(768 / width)
