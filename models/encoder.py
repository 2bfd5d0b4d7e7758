"""The encoder: a Transformer over frames with shared (AALBERT) or separate layers.

Audio ALBERT shares its layers (Chi et al. 2021, arXiv 2005.08575); Mockingjay (Liu et al. 2020,
arXiv 1910.12638) and TERA (Liu et al. 2021, arXiv 2007.06028) have separate ones. Tensors have
the axes `batch, frames, width`; a packed batch has no axis `batch`.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

import torch
from torch import Tensor, nn

from aalbert.errors import ConfigError, require
from aalbert.models.encoder_config import EncoderConfig
from aalbert.models.initialisation import initialise
from aalbert.models.layout import Packed, Padded, PaddedChunks
from aalbert.models.positions import LearnedPositions, Rotation, SinusoidalPositions

# BERT's value, which published checkpoints need to be reproduced closely.
LAYER_NORM_EPSILON = 1e-12


class SelfAttention(nn.Module):
    """Multi-head self-attention within each utterance, `(..., frames, width)` to the same."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.dropout = config.probability_dropout
        projections = 2 if config.share_query_key else 3
        self.query_key_value = nn.Linear(config.width, projections * config.width)
        self.output = nn.Linear(config.width, config.width)

    def forward(self, hidden: Tensor, layout: Padded | Packed, rotation: Rotation | None) -> Tensor:
        """Compute attention to the frames of the same utterance."""
        dropout = self.dropout if self.training else 0.0
        context = layout.attend(*self.project(hidden, rotation), dropout)
        attended: Tensor = self.output(context.flatten(-2))
        return attended

    def project(self, hidden: Tensor, rotation: Rotation | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values `(..., frames, heads, head width)`."""
        projected: Tensor = self.query_key_value(hidden)
        shape = (*hidden.shape[:-1], -1, self.heads, self.head_width)
        parts = projected.view(shape).unbind(-3)
        # With two parts, the first is both query and key.
        query, key, value = parts[0], parts[-2], parts[-1]
        if rotation is None:
            return query, key, value
        return rotation.turn(query), rotation.turn(key), value

    def probabilities(self, hidden: Tensor, layout: Padded, rotation: Rotation | None) -> Tensor:
        """Return the attention probabilities `(batch, heads, frames, frames)`, in float32."""
        query, key, _ = self.project(hidden, rotation)
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

    def forward(
        self, hidden: Tensor, layout: Padded | Packed, rotation: Rotation | None = None
    ) -> Tensor:
        """Map `(..., frames, width)` to the same shape."""
        if self.norm_first:
            attended = self.attention(self.attention_norm(hidden), layout, rotation)
            hidden = hidden + self.dropout(attended)
            hidden = hidden + self.dropout(self.feed_forward(self.feed_forward_norm(hidden)))
        else:
            attended = self.attention(hidden, layout, rotation)
            hidden = self.attention_norm(hidden + self.dropout(attended))
            hidden = self.feed_forward_norm(hidden + self.dropout(self.feed_forward(hidden)))
        return hidden

    def feed_forward(self, hidden: Tensor) -> Tensor:
        """Transform each frame separately."""
        transformed: Tensor = self.contract(self.activation(self.expand(hidden)))
        return transformed

    def attention_map(self, hidden: Tensor, layout: Padded, rotation: Rotation | None) -> Tensor:
        """Return the attention probabilities `(batch, heads, frames, frames)` for these inputs."""
        inputs: Tensor = self.attention_norm(hidden) if self.norm_first else hidden
        return self.attention.probabilities(inputs, layout, rotation)


class Encoder(nn.Module):
    """An encoder that projects inputs, gives them positions, and applies `config.layers` layers.

    With `share_layers` there is one layer in memory, in the gradient and on disk. The states of an
    utterance depend neither on padding nor on the other utterances of a batch.
    """

    def __init__(self, config: EncoderConfig, input_dims: int) -> None:
        super().__init__()
        self.config = config
        self.projection = make_projection(config, input_dims)
        self.positions = make_positions(config)
        self.input_norm = nn.LayerNorm(config.width, eps=LAYER_NORM_EPSILON)
        self.dropout = nn.Dropout(config.dropout)
        distinct = 1 if config.share_layers else config.layers
        self.layers = nn.ModuleList(Layer(config) for _ in range(distinct))
        norms = config.layers + 1 if config.norm == "pre" else 0
        self.state_norms = nn.ModuleList(
            nn.LayerNorm(config.width, eps=LAYER_NORM_EPSILON) for _ in range(norms)
        )
        initialise(self, config.weight_std)

    def forward(
        self, inputs: Tensor, lengths: Tensor | Packed, first_positions: Tensor | None = None
    ) -> list[Tensor]:
        """Return every hidden state of a padded or a packed batch.

        `inputs` are `(batch, frames, dims)` with `lengths (batch,)`, or `(frames, dims)` with
        the layout of the packed utterances; states have the shape of the inputs, with `width`
        instead of dims. The first is the projected input, followed by one per layer: `layers + 1`
        in total. The positions of an utterance begin at its `first_positions (batch,)`, or at 0.
        Raises `ConfigError` for training on a packed batch with dropout of attention
        probabilities.
        """
        most = self.config.chunk_frames
        if isinstance(lengths, Packed):
            self.require_no_attention_dropout()
            layout = lengths.cut(most) if most else lengths
            return self.encode(inputs, replace(layout, first_positions=first_positions))
        frames = inputs.shape[1]
        if most and frames > most:
            chunks = PaddedChunks(lengths, frames, most)
            states = self.encode(chunks.cut(inputs), Padded.of(chunks.lengths, most))
            return [chunks.join(state) for state in states]
        return self.encode(inputs, Padded.of(lengths, frames, first_positions))

    def encode(self, inputs: Tensor, layout: Padded | Packed) -> list[Tensor]:
        """Return every hidden state, with attention within each utterance of the layout."""
        hidden, rotation = self.embed(inputs, layout)
        states = [hidden]
        for layer in self.applied_layers():
            states.append(layer(states[-1], layout, rotation))
        if not self.state_norms:
            return states
        return [norm(state) for norm, state in zip(self.state_norms, states, strict=True)]

    def embed(self, inputs: Tensor, layout: Padded | Packed) -> tuple[Tensor, Rotation | None]:
        """Project inputs to the width; return them with their positions, or with a rotation."""
        # Weights may have been converted to 16 bits; the front end always returns float32.
        projected: Tensor = self.projection(inputs.to(self.input_norm.weight.dtype))
        frames, reach = inputs.shape[-2], inputs.shape[-2]
        if layout.first_positions is not None:
            reach = self.require_position_frames()
        elif isinstance(layout, Packed):
            reach = layout.longest
        positions = layout.select_positions(self.positions(reach, inputs.device), frames)
        rotary = self.config.positions == "rotary"
        if not rotary:
            projected = projected + positions.to(projected.dtype)
        embedded: Tensor = self.dropout(self.input_norm(projected))
        return embedded, Rotation.of(positions) if rotary else None

    def applied_layers(self) -> Iterator[Layer]:
        """Yield the layer of each application."""
        for index in range(self.config.layers):
            layer = self.layers[index % len(self.layers)]
            assert isinstance(layer, Layer)
            yield layer

    def train_for(self, states: Sequence[int]) -> None:
        """Freeze the layers and norms that none of these hidden states depends on.

        No gradient reaches them.
        """
        read = list(islice(self.applied_layers(), max(states)))
        for layer in self.layers:
            layer.requires_grad_(any(layer is each for each in read))
        for number, norm in enumerate(self.state_norms):
            norm.requires_grad_(number in states)

    def attention_maps(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """Return attention probabilities `(layers, batch, heads, frames, frames)`, in float32.

        Each row sums to one. `inputs (batch, frames, dims)` are padded. Raises `ConfigError` when
        they would have to be cut into chunks.
        """
        frames, most = inputs.shape[1], self.config.chunk_frames
        require(
            most is None or frames <= most,
            f"attention maps of {frames} frames: this model encodes chunks of at most {most} "
            "(encoder.position_frames) separately; give it shorter audio",
        )
        layout = Padded.of(lengths, frames)
        hidden, rotation = self.embed(inputs, layout)
        maps = []
        for layer in self.applied_layers():
            maps.append(layer.attention_map(hidden, layout, rotation))
            hidden = layer(hidden, layout, rotation)
        return torch.stack(maps)

    def require_position_frames(self) -> int:
        """Return the number of positions; raise `ConfigError` when it is not known."""
        if self.config.position_frames is None:
            raise ConfigError("first positions need their number: set encoder.position_frames")
        return self.config.position_frames

    def require_no_attention_dropout(self) -> None:
        """Raise `ConfigError` in training with dropout of attention probabilities."""
        dropout = self.config.probability_dropout
        require(
            not self.training or dropout == 0,
            f"dropout of attention probabilities {dropout} needs padded batches: variable-length "
            "attention has none; set encoder.attention_dropout to 0, or do not pack",
        )


def make_projection(config: EncoderConfig, input_dims: int) -> nn.Module:
    """Return the module that projects inputs to the width."""
    if config.input_width is None:
        return nn.Linear(input_dims, config.width)
    hidden = nn.Linear(input_dims, config.input_width)
    output = nn.Linear(config.input_width, config.width)
    return nn.Sequential(hidden, make_activation(config), output)


def make_positions(config: EncoderConfig) -> SinusoidalPositions | LearnedPositions:
    """Return the table of positions; rotary positions turn by the angles of sinusoids."""
    if config.positions == "learned":
        if config.position_frames is None:
            raise ConfigError("encoder.positions learned is a table: set encoder.position_frames")
        return LearnedPositions(config.position_frames, config.width)
    rotary = config.positions == "rotary"
    return SinusoidalPositions(config.width // config.heads if rotary else config.width)


def make_activation(config: EncoderConfig) -> nn.Module:
    """Return the activation of feed-forward networks and prediction heads."""
    return nn.GELU() if config.activation == "gelu" else nn.ReLU()
