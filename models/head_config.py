"""The settings of a head."""

from dataclasses import dataclass, field
from typing import Literal

from aalbert.errors import require, require_positive

# "last", "mean", "weighted", or the number of a state; 0 is the encoder's projected input.
LayerChoice = Literal["last", "mean", "weighted"] | int

# The class of an utterance or a frame; a number; a sequence of classes, by CTC. A head without a
# classifier gives embeddings, and predicts no class.
Predicts = Literal["classes", "number", "sequence"]

# "last" is the last state of recurrent layers; "none" keeps the frames, for tasks with labels of
# frames.
Pooling = Literal["mean", "statistics", "attentive", "last", "none"]


@dataclass(frozen=True, kw_only=True)
class RecurrentConfig:
    """The recurrent layers of a head: their cell, width and number.

    With `bidirectional` every layer reads the frames in both directions, each with this width.
    """

    cell: Literal["gru", "lstm"] = "gru"
    width: int = 256
    layers: int = 1
    bidirectional: bool = False

    def __post_init__(self) -> None:
        require_positive("head.recurrent.", self, "width", "layers")

    def describe(self) -> str:
        """Return a description of the layers."""
        times = f"{self.layers} x " if self.layers > 1 else ""
        both = ", both directions" if self.bidirectional else ""
        return f"{times}{self.cell.upper()} of {self.width}{both}"


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """The layers between the chosen hidden states and the scores.

    With `normalise_states` every frame of a state has mean 0 and deviation 1 over its width, with
    `standardise` every dimension of a state over the frames to train on, as they were before
    training; with both, the former comes first. A linear `projection` to this width (0: none), the
    `trunk` over frames (`recurrent` are the settings of one), the `pooling`, `hidden` layers of
    these widths with a ReLU after each, and the classifier. The `cosine` classifier scores the
    cosine to each class, times `scale`; in training `margin` is subtracted from that of the correct
    class (AM-softmax, Wang et al. 2018), and the last hidden layer, the embedding, has no ReLU.
    With `none` there is nothing to train: the head returns embeddings minus `centre`.
    """

    normalise_states: bool = False
    standardise: bool = False
    projection: int = 0
    trunk: Literal["none", "xvector", "recurrent"] = "none"
    recurrent: RecurrentConfig = field(default_factory=RecurrentConfig)
    pooling: Pooling = "mean"
    hidden: tuple[int, ...] = ()
    classifier: Literal["linear", "cosine", "none"] = "linear"
    margin: float = 0.4
    scale: float = 30.0

    def __post_init__(self) -> None:
        require(self.projection >= 0, f"head.projection {self.projection} must not be negative")
        require(
            all(width > 0 for width in self.hidden), f"head.hidden {self.hidden} must be above 0"
        )
        require(
            self.classifier != "none"
            or not (self.projection or self.hidden or self.trunk != "none"),
            "head.classifier none trains nothing: leave projection, trunk and hidden layers out",
        )
        require(
            self.pooling != "last" or self.trunk == "recurrent",
            "head.pooling last is the last state of recurrent layers: use it with head.trunk "
            "recurrent",
        )
        require(0 <= self.margin < 2, f"head.margin {self.margin} must be in [0, 2)")
        require(self.scale > 0, f"head.scale {self.scale} must be above 0")

    @property
    def linear_up_to_pooling(self) -> bool:
        """True if the head needs only averages over frames of the hidden states."""
        return self.pooling == "mean" and self.trunk == "none"

    @property
    def frames(self) -> bool:
        """True if every frame is scored, not every utterance."""
        return self.pooling == "none"

    def describe(self) -> str:
        """Return a description of the head."""
        parts = [
            "normalised frames" if self.normalise_states else "",
            "standardised" if self.standardise else "",
            f"projection to {self.projection}" if self.projection else "",
            {"xvector": "time-delay layers", "recurrent": self.recurrent.describe()}.get(
                self.trunk, ""
            ),
            {"none": "every frame", "last": "last frame"}.get(
                self.pooling, f"{self.pooling} over frames"
            ),
            *(f"hidden layer of {width}" for width in self.hidden),
            {"linear": "linear", "cosine": f"AM-softmax (margin {self.margin:g})"}.get(
                self.classifier, ""
            ),
        ]
        return ", ".join(part for part in parts if part)
