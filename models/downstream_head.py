"""The head of a downstream task: hidden states in, scores of classes out."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aalbert.errors import require
from aalbert.models.head_config import HeadConfig, LayerChoice, Predicts
from aalbert.models.pooling import AttentivePooling, mean_pool, statistics_pool
from aalbert.models.recurrent import RecurrentLayers
from aalbert.models.xvector import TimeDelayLayers


class LayerMix(nn.Module):
    """A softmax-weighted sum of all hidden states, as in SUPERB (Yang et al. 2021)."""

    def __init__(self, states: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(states))

    def forward(self, states: Sequence[Tensor]) -> Tensor:
        """Return the weighted sum of states of equal shape."""
        return torch.einsum("s,s...->...", self.weights(), torch.stack(list(states)))

    def weights(self) -> Tensor:
        """Return the weights of the states, which sum to one."""
        return self.logits.softmax(dim=0)


def normalised(states: Sequence[Tensor]) -> list[Tensor]:
    """Return states `(..., width)` of which every frame has mean 0 and deviation 1 over its width.

    A layer norm without parameters, as s3prl's `--upstream_feature_normalize`: states of large
    values do not outweigh others in a mix.
    """
    return [F.layer_norm(state.float(), state.shape[-1:]) for state in states]


def layer_words(layers: str) -> str:
    """Return the hidden states that a head reads, in words."""
    known = {"last": "last layer", "weighted": "mix of all layers", "mean": "mean of all layers"}
    return known.get(layers, f"state {layers}")


def chosen_states(states: int, layers: LayerChoice) -> range:
    """Return the numbers of the chosen hidden states.

    Raises `ConfigError` when the upstream does not have the chosen state.
    """
    if layers in ("mean", "weighted"):
        return range(states)
    number = states - 1 if layers == "last" else int(layers)
    require(
        0 <= number < states,
        f"layers {layers}: the upstream has the states 0 to {states - 1} (0 is its input)",
    )
    return range(number, number + 1)


class DownstreamHead(nn.Module):
    """A head that selects or mixes hidden states, pools them, and scores `classes`.

    Without a classifier it returns embeddings only. What `predicts` a number has a single score,
    the number; the scores of a sequence are those of the classes and, last, of CTC's blank.
    """

    def __init__(
        self,
        states: int,
        width: int,
        classes: int,
        layers: LayerChoice,
        config: HeadConfig,
        predicts: Predicts = "classes",
    ) -> None:
        super().__init__()
        self.config = config
        self.layers = layers
        self.chosen = chosen_states(states, layers)
        state_width = width
        self.mix = LayerMix(states) if layers == "weighted" else None
        self.projection = nn.Linear(width, config.projection) if config.projection else None
        width = config.projection or width
        self.trunk = make_trunk(config, width)
        width = self.trunk.output_width if self.trunk else width
        self.attention = AttentivePooling(width) if config.pooling == "attentive" else None
        width = width * 2 if config.pooling in ("statistics", "attentive") else width
        widths = (width, *config.hidden)
        self.hidden = nn.ModuleList(
            nn.Linear(left, right) for left, right in zip(widths, widths[1:], strict=False)
        )
        self.classifier = make_classifier(config, widths[-1], classes, predicts)
        self.register_buffer("centre", torch.zeros(widths[-1]))
        if config.standardise:
            self.register_buffer("mean", torch.zeros(len(self.chosen), state_width))
            self.register_buffer("deviation", torch.ones(len(self.chosen), state_width))

    centre: Tensor
    mean: Tensor
    deviation: Tensor

    def forward(self, states: Sequence[Tensor], lengths: Tensor) -> Tensor:
        """Return the scores `(batch, classes)`, or `(batch, frames, classes)` without pooling.

        `states` are those of the numbers `chosen`, each `(batch, frames, width)`, normalised
        where the settings say so. The classifier is in float32 where a precision below it is chosen
        for the rest.
        """
        assert self.classifier is not None, "a head without a classifier gives embeddings"
        # Less `centre`, they are in its precision.
        embeddings = self.embed(states, lengths)
        with torch.autocast(embeddings.device.type, enabled=False):
            scores: Tensor = self.classifier(embeddings)
        return scores

    def embed(self, states: Sequence[Tensor], lengths: Tensor) -> Tensor:
        """Return the inputs of the classifier, `(batch, dims)`, or per frame without pooling."""
        if self.config.linear_up_to_pooling:
            # Pool first: the layers up to pooling are linear, and pooled states are small.
            averages = self.standardise([mean_pool(state, lengths) for state in states])
            pooled = self.project(self.combine(averages))
        else:
            frames = self.project(self.combine(self.standardise(list(states))))
            pooled = self.pool(self.trunk(frames, lengths) if self.trunk else frames, lengths)
        return self.transform(pooled) - self.centre

    def scale_numbers(self, mean: float, deviation: float) -> None:
        """Predict numbers in units of those to train on, which have this mean and deviation."""
        assert isinstance(self.classifier, NumberLayer), "the head predicts no number"
        self.classifier.mean.fill_(mean)
        self.classifier.deviation.fill_(deviation)

    def standardise(self, states: list[Tensor]) -> list[Tensor]:
        """Return the chosen states, or averages of them, with mean 0 and deviation 1 if asked."""
        if not self.config.standardise:
            return states
        return [
            (state - mean) / deviation
            for state, mean, deviation in zip(states, self.mean, self.deviation, strict=True)
        ]

    def combine(self, states: list[Tensor]) -> Tensor:
        """Return the learned mix of the chosen states, or their mean."""
        if self.mix is not None:
            mixed: Tensor = self.mix(states)
            return mixed
        return states[0] if len(states) == 1 else torch.stack(states).mean(dim=0)

    def project(self, hidden: Tensor) -> Tensor:
        """Apply the projection, if there is one."""
        return hidden if self.projection is None else self.projection(hidden)

    def pool(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """Return one vector per utterance, or the frames without pooling."""
        if self.attention is not None:
            attended: Tensor = self.attention(frames, lengths)
            return attended
        if self.config.pooling == "none":
            return frames
        if isinstance(self.trunk, RecurrentLayers) and self.config.pooling == "last":
            return self.trunk.last(frames, lengths)
        pool = mean_pool if self.config.pooling == "mean" else statistics_pool
        return pool(frames, lengths)

    def transform(self, pooled: Tensor) -> Tensor:
        """Apply the hidden layers."""
        for number, layer in enumerate(self.hidden, start=1):
            embedding = self.config.classifier == "cosine" and number == len(self.hidden)
            pooled = layer(pooled) if embedding else F.relu(layer(pooled))
        return pooled


class CosineClassifier(nn.Module):
    """A classifier by the cosine to the direction of each class, times `scale`."""

    def __init__(self, width: int, classes: int, scale: float) -> None:
        super().__init__()
        self.directions = nn.Parameter(torch.empty(classes, width))
        if not self.directions.is_meta:
            nn.init.xavier_normal_(self.directions)
        self.scale = scale

    def forward(self, embeddings: Tensor) -> Tensor:
        """Map `(..., width)` to `(..., classes)`."""
        cosines = F.linear(F.normalize(embeddings, dim=-1), F.normalize(self.directions, dim=-1))
        return self.scale * cosines


def make_trunk(config: HeadConfig, width: int) -> TimeDelayLayers | RecurrentLayers | None:
    """Return the layers of a head over frames of this width, if it has any."""
    if config.trunk == "xvector":
        return TimeDelayLayers(width)
    return RecurrentLayers(width, config.recurrent) if config.trunk == "recurrent" else None


class NumberLayer(nn.Module):
    """A linear layer to one number, in units of the `deviation` of those to train on.

    Their `mean` is what it predicts where its inputs tell it nothing. Numbers that are large beside
    their deviation, as of seconds since 1970, need more digits than those of float32.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 1)
        self.register_buffer("mean", torch.zeros((), dtype=torch.float64))
        self.register_buffer("deviation", torch.ones((), dtype=torch.float64))

    def forward(self, embeddings: Tensor) -> Tensor:
        """Map `(..., width)` to `(..., 1)`, in float64."""
        number: Tensor = self.linear(embeddings).double() * self.deviation + self.mean
        return number


def make_classifier(
    config: HeadConfig, width: int, classes: int, predicts: Predicts
) -> nn.Module | None:
    """Return the layer of a head that scores, or None if it has none."""
    if predicts == "number":
        return NumberLayer(width)
    if predicts == "sequence":
        return nn.Linear(width, classes + 1)
    if config.classifier == "none":
        return None
    if config.classifier == "cosine":
        return CosineClassifier(width, classes, config.scale)
    return nn.Linear(width, classes)
