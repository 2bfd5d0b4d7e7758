"""The head of a downstream task: hidden states in, scores of classes out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aalbert.errors import require
from aalbert.models.pooling import AttentivePooling, Pooling, mean_pool, statistics_pool
from aalbert.models.xvector import TimeDelayLayers

# "last", "mean", "weighted", or the number of a state; 0 is the encoder's projected input.
LayerChoice = Literal["last", "mean", "weighted"] | int


class LayerMix(nn.Module):
    """A softmax-weighted sum of all hidden states, as SUPERB mixes them (Yang et al. 2021)."""

    def __init__(self, states: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(states))

    def forward(self, states: Sequence[Tensor]) -> Tensor:
        """Mix states of one shape into one."""
        return torch.einsum("s,s...->...", self.weights(), torch.stack(list(states)))

    def weights(self) -> Tensor:
        """Return the weight of every state; they sum to one."""
        return self.logits.softmax(dim=0)


def chosen_states(states: int, layers: LayerChoice) -> range:
    """Return the numbers of the hidden states that a choice reads.

    Raises `ConfigError` for the number of a state that the upstream does not have.
    """
    if layers in ("mean", "weighted"):
        return range(states)
    number = states - 1 if layers == "last" else int(layers)
    require(
        0 <= number < states,
        f"layers {layers}: the upstream has the states 0 to {states - 1} (0 is its input)",
    )
    return range(number, number + 1)


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """What lies between the chosen hidden states and the scores.

    A linear `projection` to that width (0: none), the `trunk` over frames, the `pooling`,
    `hidden` layers of these widths with a ReLU after each, and the classifier. The `cosine`
    one scores by the angle to each class, times `scale`; in training the true class has to
    win by `margin` (AM-softmax, Wang et al. 2018), and the last hidden layer, which is the
    embedding then, has no ReLU. With `none` there is nothing to train: the head gives
    embeddings, measured from `centre`.
    """

    projection: int = 0
    trunk: Literal["none", "xvector"] = "none"
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
        require(0 <= self.margin < 2, f"head.margin {self.margin} must be in [0, 2)")
        require(self.scale > 0, f"head.scale {self.scale} must be above 0")

    @property
    def linear_up_to_pooling(self) -> bool:
        """Whether averages over frames are all that the head needs of the hidden states."""
        return self.pooling == "mean" and self.trunk == "none"

    @property
    def frames(self) -> bool:
        """Whether every frame is scored, not every utterance."""
        return self.pooling == "none"

    def describe(self) -> str:
        """Return the head in words."""
        parts = [
            f"projection to {self.projection}" if self.projection else "",
            "time-delay layers" if self.trunk == "xvector" else "",
            "every frame" if self.frames else f"{self.pooling} over frames",
            *(f"hidden layer of {width}" for width in self.hidden),
            {"linear": "linear", "cosine": f"AM-softmax (margin {self.margin:g})"}.get(
                self.classifier, ""
            ),
        ]
        return ", ".join(part for part in parts if part)


class DownstreamHead(nn.Module):
    """Chooses or mixes hidden states, pools them, and scores `classes`.

    Without a classifier it gives embeddings alone.
    """

    def __init__(
        self, states: int, width: int, classes: int, layers: LayerChoice, config: HeadConfig
    ) -> None:
        super().__init__()
        self.config = config
        self.layers = layers
        self.chosen = chosen_states(states, layers)
        self.mix = LayerMix(states) if layers == "weighted" else None
        self.projection = nn.Linear(width, config.projection) if config.projection else None
        width = config.projection or width
        self.trunk = TimeDelayLayers(width) if config.trunk == "xvector" else None
        width = self.trunk.output_width if self.trunk else width
        self.attention = AttentivePooling(width) if config.pooling == "attentive" else None
        width = width * 2 if config.pooling in ("statistics", "attentive") else width
        widths = (width, *config.hidden)
        self.hidden = nn.ModuleList(
            nn.Linear(left, right) for left, right in zip(widths, widths[1:], strict=False)
        )
        self.classifier = make_classifier(config, widths[-1], classes)
        self.register_buffer("centre", torch.zeros(widths[-1]))

    centre: Tensor

    def forward(self, states: Sequence[Tensor], lengths: Tensor) -> Tensor:
        """Return the scores `(batch, classes)`, or `(batch, frames, classes)` without pooling.

        `states` are those of the numbers `chosen`, each `(batch, frames, width)`.
        """
        assert self.classifier is not None, "a head without a classifier gives embeddings"
        scores: Tensor = self.classifier(self.embed(states, lengths))
        return scores

    def embed(self, states: Sequence[Tensor], lengths: Tensor) -> Tensor:
        """Return what the classifier reads, `(batch, dims)`, or per frame without pooling."""
        if self.config.linear_up_to_pooling:
            # Averages first: what follows is linear, and pooled states are small.
            pooled = self.project(self.mixed([mean_pool(state, lengths) for state in states]))
        else:
            frames = self.project(self.mixed(list(states)))
            pooled = self.pool(self.trunk(frames, lengths) if self.trunk else frames, lengths)
        return self.transform(pooled) - self.centre

    def mixed(self, states: list[Tensor]) -> Tensor:
        """Return one state of all that were chosen."""
        if self.mix is not None:
            mixed: Tensor = self.mix(states)
            return mixed
        return states[0] if len(states) == 1 else torch.stack(states).mean(dim=0)

    def project(self, hidden: Tensor) -> Tensor:
        """Apply the projection, if there is one."""
        return hidden if self.projection is None else self.projection(hidden)

    def pool(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """Return one vector an utterance, or the frames."""
        if self.attention is not None:
            attended: Tensor = self.attention(frames, lengths)
            return attended
        if self.config.pooling == "none":
            return frames
        pool = mean_pool if self.config.pooling == "mean" else statistics_pool
        return pool(frames, lengths)

    def transform(self, pooled: Tensor) -> Tensor:
        """Apply the hidden layers."""
        for number, layer in enumerate(self.hidden, start=1):
            embedding = self.config.classifier == "cosine" and number == len(self.hidden)
            pooled = layer(pooled) if embedding else F.relu(layer(pooled))
        return pooled


class CosineClassifier(nn.Module):
    """Scores a vector by its cosine to the direction of every class, times `scale`."""

    def __init__(self, width: int, classes: int, scale: float) -> None:
        super().__init__()
        self.directions = nn.Parameter(torch.empty(classes, width))
        nn.init.xavier_normal_(self.directions)
        self.scale = scale

    def forward(self, embeddings: Tensor) -> Tensor:
        """Map `(..., width)` to `(..., classes)`."""
        cosines = F.linear(F.normalize(embeddings, dim=-1), F.normalize(self.directions, dim=-1))
        return self.scale * cosines


def make_classifier(config: HeadConfig, width: int, classes: int) -> nn.Module | None:
    """Return the last layer of a head, if it has one."""
    if config.classifier == "none":
        return None
    if config.classifier == "cosine":
        return CosineClassifier(width, classes, config.scale)
    return nn.Linear(width, classes)
