"""The encoder: a Transformer over frames with shared (AALBERT) or separate layers.

Audio ALBERT shares its layers (Chi et al. 2021, arXiv 2005.08575); Mockingjay (Liu et al. 2020,
arXiv 1910.12638) and TERA (Liu et al. 2021, arXiv 2007.06028) have separate ones. Tensors have
the axes `batch, frames, width`; a packed batch has no axis `batch`.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from aalbert.errors import require
from aalbert.models.layout import Packed, Padded, PaddedChunks
from aalbert.models.positions import LearnedPositions, SinusoidalPositions

# BERT's value, which published checkpoints need to be reproduced closely.
LAYER_NORM_EPSILON = 1e-12


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """The settings of an encoder. `layers` counts applications, shared or not.

    `share_query_key` gives queries and keys one projection. `norm` sets the position of layer
    norms: after each residual connection ("post"), or before attention and feed-forward network
    and on every returned state ("pre").

    `positions` are sinusoids or a learned table of `position_frames`. For longer utterances the
    positions continue ("continue"), or they are cut into chunks of at most `position_frames` that
    are encoded separately ("restart", as in s3prl).

    `attention_dropout` is the dropout of attention probabilities, by default `dropout`.
    `initial_std` is the standard deviation of the initial weights: BERT's 0.02 suits a width of
    768, a narrow encoder needs a larger one to leave its initial plateau.
    """

    layers: int = 3
    share_layers: bool = True
    share_query_key: bool = False
    width: int = 768
    heads: int = 12
    feed_forward_width: int = 3072
    activation: Literal["gelu", "relu"] = "gelu"
    norm: Literal["post", "pre"] = "post"
    positions: Literal["sinusoidal", "learned"] = "sinusoidal"
    position_frames: int = 1500
    beyond_positions: Literal["continue", "restart"] = "continue"
    dropout: float = 0.1
    attention_dropout: float | None = None
    initial_std: float = 0.02

    def __post_init__(self) -> None:
        sizes = ("layers", "width", "heads", "feed_forward_width", "position_frames", "initial_std")
        for name in sizes:
            value = getattr(self, name)
            require(value > 0, f"encoder.{name} {value} must be above 0")
        for name in ("dropout", "attention_dropout"):
            value = getattr(self, name)
            require(value is None or 0 <= value < 1, f"encoder.{name} {value} must be in [0, 1)")
        require(
            self.width % self.heads == 0 and self.width % 2 == 0,
            f"encoder.width {self.width} must be even and a multiple of encoder.heads {self.heads}",
        )
        require(
            self.positions == "sinusoidal" or self.beyond_positions == "restart",
            "encoder.positions learned end after encoder.position_frames: "
            "set encoder.beyond_positions to restart",
        )

    @property
    def probability_dropout(self) -> float:
        """The dropout of attention probabilities."""
        return self.dropout if self.attention_dropout is None else self.attention_dropout

    @property
    def restarts(self) -> bool:
        """True if utterances longer than `position_frames` are cut into chunks."""
        return self.beyond_positions == "restart"


class SelfAttention(nn.Module):
    """Multi-head self-attention within each utterance, `(..., frames, width)` to the same."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.dropout = config.probability_dropout
        projections = 2 if config.share_query_key else 3
        self.query_key_value = nn.Linear(config.width, projections * config.width)
        self.output = nn.Linear(config.width, config.width)

    def forward(self, hidden: Tensor, layout: Padded | Packed) -> Tensor:
        """Compute attention to the frames of the same utterance."""
        dropout = self.dropout if self.training else 0.0
        context = layout.attend(*self.project(hidden), dropout)
        attended: Tensor = self.output(context.flatten(-2))
        return attended

    def project(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values `(..., frames, heads, head width)`."""
        projected: Tensor = self.query_key_value(hidden)
        shape = (*hidden.shape[:-1], -1, self.heads, self.head_width)
        parts = projected.view(shape).unbind(-3)
        # With two parts, the first is both query and key.
        return parts[0], parts[-2], parts[-1]

    def probabilities(self, hidden: Tensor, layout: Padded) -> Tensor:
        """Return the attention probabilities `(batch, heads, frames, frames)`, in float32."""
        query, key, _ = self.project(hidden)
        with torch.autocast(hidden.device.type, enabled=False):
            scores = torch.einsum("bqhw,bkhw->bhqk", query.float(), key.float())
            scaled = scores / math.sqrt(self.head_width)
            return scaled.masked_fill(~layout.mask, -torch.inf).softmax(dim=-1)

    @property
    def head_width(self) -> int:
        """Numbers per frame and head."""
        return self.output.in_features // self.heads


class Layer(nn.Module):
    """Attention and a feed-forward network, each with a residual and a layer norm."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.norm_first = config.norm == "pre"
        self.attention = SelfAttention(config)
        self.attention_norm = nn.LayerNorm(config.width, eps=LAYER_NORM_EPSILON)
        self.expand = nn.Linear(config.width, config.feed_forward_width)
        self.activation = make_activation(config)
        self.contract = nn.Linear(config.feed_forward_width, config.width)
        self.feed_forward_norm = nn.LayerNorm(config.width, eps=LAYER_NORM_EPSILON)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, hidden: Tensor, layout: Padded | Packed) -> Tensor:
        """Map `(..., frames, width)` to the same shape."""
        if self.norm_first:
            hidden = hidden + self.dropout(self.attention(self.attention_norm(hidden), layout))
            hidden = hidden + self.dropout(self.feed_forward(self.feed_forward_norm(hidden)))
        else:
            hidden = self.attention_norm(hidden + self.dropout(self.attention(hidden, layout)))
            hidden = self.feed_forward_norm(hidden + self.dropout(self.feed_forward(hidden)))
        return hidden

    def feed_forward(self, hidden: Tensor) -> Tensor:
        """Transform each frame separately."""
        transformed: Tensor = self.contract(self.activation(self.expand(hidden)))
        return transformed

    def attention_map(self, hidden: Tensor, layout: Padded) -> Tensor:
        """Return the attention probabilities `(batch, heads, frames, frames)` for these inputs."""
        inputs: Tensor = self.attention_norm(hidden) if self.norm_first else hidden
        return self.attention.probabilities(inputs, layout)


class Encoder(nn.Module):
    """An encoder that projects inputs, adds positions, and applies `config.layers` layers.

    With `share_layers` there is one layer in memory, in the gradient and on disk. The states of an
    utterance depend neither on padding nor on the other utterances of a batch.
    """

    def __init__(self, config: EncoderConfig, input_dims: int) -> None:
        super().__init__()
        self.config = config
        self.projection = nn.Linear(input_dims, config.width)
        make = LearnedPositions if config.positions == "learned" else SinusoidalPositions
        self.positions = make(config.position_frames, config.width)
        self.input_norm = nn.LayerNorm(config.width, eps=LAYER_NORM_EPSILON)
        self.dropout = nn.Dropout(config.dropout)
        distinct = 1 if config.share_layers else config.layers
        self.layers = nn.ModuleList(Layer(config) for _ in range(distinct))
        norms = config.layers + 1 if config.norm == "pre" else 0
        self.state_norms = nn.ModuleList(
            nn.LayerNorm(config.width, eps=LAYER_NORM_EPSILON) for _ in range(norms)
        )
        initialise(self, config.initial_std)

    def forward(self, inputs: Tensor, lengths: Tensor | Packed) -> list[Tensor]:
        """Return every hidden state of a padded or a packed batch.

        `inputs` are `(batch, frames, dims)` with `lengths (batch,)`, or `(frames, dims)` with
        the layout of the packed utterances; states have the shape of the inputs, with `width`
        instead of dims. The first is the projected input, followed by one per layer: `layers + 1`
        in total. Raises `ConfigError` for training on a packed batch with dropout of attention
        probabilities.
        """
        most = self.config.position_frames
        if isinstance(lengths, Packed):
            self.require_no_attention_dropout()
            return self.encode(inputs, lengths.cut(most) if self.config.restarts else lengths)
        frames = inputs.shape[1]
        if self.config.restarts and frames > most:
            chunks = PaddedChunks(lengths, frames, most)
            states = self.encode(chunks.cut(inputs), Padded.of(chunks.lengths, most))
            return [chunks.join(state) for state in states]
        return self.encode(inputs, Padded.of(lengths, frames))

    def encode(self, inputs: Tensor, layout: Padded | Packed) -> list[Tensor]:
        """Return every hidden state, with attention within each utterance of the layout."""
        states = [self.embed(inputs, layout)]
        for layer in self.applied_layers():
            states.append(layer(states[-1], layout))
        if not self.state_norms:
            return states
        return [norm(state) for norm, state in zip(self.state_norms, states, strict=True)]

    def embed(self, inputs: Tensor, layout: Padded | Packed) -> Tensor:
        """Project inputs to the width and add their positions."""
        frames = inputs.shape[-2]
        longest = layout.longest if isinstance(layout, Packed) else frames
        # Weights may have been converted to 16 bits; the front end always returns float32.
        inputs = inputs.to(self.projection.weight.dtype)
        table = self.positions(longest, inputs.device).to(inputs.dtype)
        positions = layout.select_positions(table, frames)
        embedded: Tensor = self.dropout(self.input_norm(self.projection(inputs) + positions))
        return embedded

    def applied_layers(self) -> Iterator[Layer]:
        """Yield the layer of each application."""
        for index in range(self.config.layers):
            layer = self.layers[index % len(self.layers)]
            assert isinstance(layer, Layer)
            yield layer

    def attention_maps(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """Return attention probabilities `(layers, batch, heads, frames, frames)`, in float32.

        Each row sums to one. `inputs (batch, frames, dims)` are padded. Raises `ConfigError` when
        they would have to be cut into chunks.
        """
        frames, most = inputs.shape[1], self.config.position_frames
        require(
            frames <= most or not self.config.restarts,
            f"attention maps of {frames} frames: this model encodes chunks of at most {most} "
            "(encoder.position_frames) separately; give it shorter audio",
        )
        layout = Padded.of(lengths, frames)
        hidden, maps = self.embed(inputs, layout), []
        for layer in self.applied_layers():
            maps.append(layer.attention_map(hidden, layout))
            hidden = layer(hidden, layout)
        return torch.stack(maps)

    def require_no_attention_dropout(self) -> None:
        """Raise `ConfigError` in training with dropout of attention probabilities."""
        dropout = self.config.probability_dropout
        require(
            not self.training or dropout == 0,
            f"dropout of attention probabilities {dropout} needs padded batches: variable-length "
            "attention has none; set encoder.attention_dropout to 0, or do not pack",
        )


def make_activation(config: EncoderConfig) -> nn.Module:
    """Return the activation of feed-forward networks and prediction heads."""
    return nn.GELU() if config.activation == "gelu" else nn.ReLU()


def initialise(module: nn.Module, std: float) -> None:
    """Initialise as in BERT: normal weights and positions with this deviation, zero biases."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=std)
            nn.init.zeros_(part.bias)
        if isinstance(part, LearnedPositions):
            nn.init.normal_(part.weight, std=std)
