# Copyright (c) 2026 The aalbert developers
# SPDX-License-Identifier: MIT

"""Features to hidden states in PyTorch: the encoder of a `config.json` of AALBERT.

Names of tensors are those of `model.safetensors`. Audio ALBERT (Chi et al. 2021, arXiv
2005.08575) applies one layer several times; Mockingjay and TERA have separate ones. Padding never
changes a state.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .front_end_aalbert import FrontEnd, require_known, taken

LAYER_NORM_EPSILON = 1e-12
# What settings may be; a later version may know more.
CHOICES = {
    "activation": ("gelu", "relu"),
    "norm": ("post", "pre"),
    "positions": ("sinusoidal", "learned", "rotary"),
    "beyond_positions": ("continue", "restart"),
}


class SelfAttention(nn.Module):
    """Multi-head self-attention, `(batch, frames, width)` to the same."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        width, given = config["width"], config["attention_dropout"]
        self.heads = config["heads"]
        self.dropout = config["dropout"] if given is None else given
        self.query_key_value = nn.Linear(width, (2 if config["share_query_key"] else 3) * width)
        self.output = nn.Linear(width, width)

    def forward(self, hidden: Tensor, mask: Tensor, rotation: Tensor | None) -> Tensor:
        """Attend to frames where the mask `(batch, 1, frames or 1, frames)` is true."""
        head_width = self.output.in_features // self.heads
        projected = self.query_key_value(hidden).unflatten(-1, (-1, self.heads, head_width))
        parts = projected.permute(2, 0, 3, 1, 4).unbind(0)
        # With two parts, the first is both query and key.
        query, key, value = parts[0], parts[-2], parts[-1]
        if rotation is not None:
            query, key = turned(query, rotation), turned(key, rotation)
        dropout = self.dropout if self.training else 0.0
        context = F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, dropout_p=dropout
        )
        attended: Tensor = self.output(context.transpose(1, 2).flatten(2))
        return attended


def turned(values: Tensor, sinusoids: Tensor) -> Tensor:
    """Turn pairs of numbers of `(batch, heads, frames, head width)` (Su et al. 2021).

    Number `i` of the first half of a head makes a pair with number `i` of the second half; the
    angles are those of `sinusoids (batch, frames, head width)`.
    """
    sine, cosine = (sinusoids[:, None, :, first::2] for first in (0, 1))
    first, second = values.float().chunk(2, dim=-1)
    rotated = torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)
    return rotated.to(values.dtype)


class Layer(nn.Module):
    """Attention and a feed-forward network, each with a residual and a layer norm."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        width = config["width"]
        self.norm_first = config["norm"] == "pre"
        self.attention = SelfAttention(config)
        self.attention_norm = nn.LayerNorm(width, eps=LAYER_NORM_EPSILON)
        self.expand = nn.Linear(width, config["feed_forward_width"])
        self.activation = activation_of(config)
        self.contract = nn.Linear(config["feed_forward_width"], width)
        self.feed_forward_norm = nn.LayerNorm(width, eps=LAYER_NORM_EPSILON)
        self.dropout = nn.Dropout(config["dropout"])

    def forward(self, hidden: Tensor, mask: Tensor, rotation: Tensor | None) -> Tensor:
        """Map `(batch, frames, width)` to the same shape."""
        if self.norm_first:
            attended = self.attention(self.attention_norm(hidden), mask, rotation)
            hidden = hidden + self.dropout(attended)
            hidden = hidden + self.dropout(self.feed_forward(self.feed_forward_norm(hidden)))
        else:
            attended = self.attention(hidden, mask, rotation)
            hidden = self.attention_norm(hidden + self.dropout(attended))
            hidden = self.feed_forward_norm(hidden + self.dropout(self.feed_forward(hidden)))
        return hidden

    def feed_forward(self, hidden: Tensor) -> Tensor:
        """Transform each frame separately."""
        transformed: Tensor = self.contract(self.activation(self.expand(hidden)))
        return transformed


class LearnedPositions(nn.Module):
    """A learned vector for each of a fixed number of frames."""

    def __init__(self, frames: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(frames, width))


class Encoder(nn.Module):
    """Projects inputs, gives them positions, and applies `layers` layers, shared or separate.

    With `beyond_positions` restart, utterances of more than `position_frames` are cut into as few
    chunks as possible: positions begin anew in each, and attention stays inside. Otherwise memory
    grows with the square of the frames.
    """

    def __init__(self, config: Mapping[str, Any], input_dims: int) -> None:
        super().__init__()
        require_known("encoder", config, CHOICES)
        self.config = config
        width, hidden, layers = config["width"], config["input_width"], config["layers"]
        self.projection: nn.Module
        if hidden is None:
            self.projection = nn.Linear(input_dims, width)
        else:
            self.projection = nn.Sequential(
                nn.Linear(input_dims, hidden), activation_of(config), nn.Linear(hidden, width)
            )
        if config["positions"] == "learned":
            self.positions = LearnedPositions(config["position_frames"], width)
        self.input_norm = nn.LayerNorm(width, eps=LAYER_NORM_EPSILON)
        self.dropout = nn.Dropout(config["dropout"])
        self.layers = nn.ModuleList(
            Layer(config) for _ in range(1 if config["share_layers"] else layers)
        )
        self.state_norms = nn.ModuleList(
            nn.LayerNorm(width, eps=LAYER_NORM_EPSILON)
            for _ in range(layers + 1 if config["norm"] == "pre" else 0)
        )

    def forward(self, inputs: Tensor, lengths: Tensor) -> list[Tensor]:
        """Return `layers + 1` states `(batch, frames, width)` of inputs `(batch, frames, dims)`."""
        most = self.config["position_frames"]
        if self.config["beyond_positions"] == "continue" or most is None:
            return self.encode(inputs, lengths)
        chunks = Chunks(lengths, inputs.shape[1], most)
        states = self.encode(chunks.cut(inputs), chunks.lengths)
        return [chunks.join(state) for state in states]

    def encode(self, inputs: Tensor, lengths: Tensor) -> list[Tensor]:
        """Return every state, with attention within each row."""
        positions = torch.arange(inputs.shape[1], device=inputs.device)
        # In an empty chunk the first frame is attended to: attention to no frame would be NaN.
        mask = (positions < lengths.clamp(min=1).unsqueeze(1))[:, None, None, :]
        hidden, rotation = self.embed(inputs, positions.unsqueeze(0))
        states = [hidden]
        for number in range(self.config["layers"]):
            layer = self.layers[number % len(self.layers)]
            states.append(layer(states[-1], mask, rotation))
        if not self.state_norms:
            return states
        return [norm(state) for norm, state in zip(self.state_norms, states, strict=True)]

    def embed(self, inputs: Tensor, positions: Tensor) -> tuple[Tensor, Tensor | None]:
        """Project inputs to the width; return them with their positions, or with rotations."""
        projected = self.projection(inputs.to(self.input_norm.weight.dtype))
        width, rotation = self.config["width"], None
        if self.config["positions"] == "learned":
            projected = projected + self.positions.weight[positions]
        elif self.config["positions"] == "sinusoidal":
            projected = projected + sinusoids(positions, width).to(projected.dtype)
        else:
            rotation = sinusoids(positions, width // self.config["heads"])
        return self.dropout(self.input_norm(projected)), rotation


def activation_of(config: Mapping[str, Any]) -> nn.Module:
    """Return the activation of feed-forward networks."""
    return nn.GELU() if config["activation"] == "gelu" else nn.ReLU()


class Chunks:
    """A batch whose utterances are cut into chunks of at most `most_frames`, each a row.

    An utterance is cut into as few as possible, equal but for the last. Each has the number of
    rows that `frames` frames need; some may be empty. No size depends on a length, only on shapes,
    so that it exports to ONNX for waves of any length.
    """

    def __init__(self, lengths: Tensor, frames: int, most_frames: int) -> None:
        count = (lengths + most_frames - 1) // most_frames
        self.size = ((lengths + count - 1) // count).unsqueeze(1)
        self.frames = frames
        # What is exported has sizes that are symbols, of which `min` would choose one for all.
        self.row_frames: int = torch.sym_min(frames, most_frames)  # type: ignore[no-untyped-call]
        self.rows = (frames + most_frames - 1) // most_frames
        self.starts = torch.arange(self.rows, device=lengths.device) * self.size
        rest = (lengths.unsqueeze(1) - self.starts).clamp(min=0)
        self.lengths = rest.minimum(self.size).flatten()

    def cut(self, padded: Tensor) -> Tensor:
        """Map `(batch, frames, dims)` to `(batch * rows, row frames, dims)`."""
        numbers = torch.arange(self.row_frames, device=padded.device)
        indexes = (self.starts.unsqueeze(-1) + numbers).clamp(max=self.frames - 1).flatten(1)
        return taken(padded, indexes).reshape(-1, self.row_frames, padded.shape[-1])

    def join(self, chunks: Tensor) -> Tensor:
        """Map `(batch * rows, row frames, dims)` back to `(batch, frames, dims)`."""
        in_order = chunks.reshape(-1, self.rows * self.row_frames, chunks.shape[-1])
        numbers = torch.arange(self.frames, device=chunks.device)
        indexes = numbers // self.size * self.row_frames + numbers % self.size
        return taken(in_order, indexes.clamp(max=self.rows * self.row_frames - 1))


def sinusoids(positions: Tensor, width: int) -> Tensor:
    """Map positions `(..., frames)` to `(..., frames, width)`: sine in even, cosine in odd.

    The angle at position `p` in dimensions `2i` and `2i + 1` is `p / 10000^(2i / width)`
    (Vaswani et al. 2017), in float64: at 24,000 the error of float32 is 1e-3.
    """
    even = torch.arange(0, width, 2, dtype=torch.float64, device=positions.device)
    angles: Tensor = positions.unsqueeze(-1) / 10_000 ** (even / width)
    # Some runtimes of ONNX have no cosine in float64; this is one.
    cosine = (angles + math.pi / 2).sin()
    return torch.stack((angles.sin(), cosine), dim=-1).flatten(-2).float()


class Upstream(nn.Module):
    """A front end and, unless the settings have none, an encoder."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.front_end = FrontEnd(config["front_end"])
        encoder = config["encoder"]
        self.encoder = None if encoder is None else Encoder(encoder, self.front_end.input_dims)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the states `(batch, encoder frames, width)` of features, and their lengths."""
        inputs, input_lengths = self.front_end(features, lengths)
        if self.encoder is None:
            return [inputs], input_lengths
        return self.encoder(inputs, input_lengths), input_lengths
