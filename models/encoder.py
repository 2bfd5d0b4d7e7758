"""The encoder: a Transformer over frames whose layers are one and the same (AALBERT) or not.

Shared layers are Audio ALBERT (Chi et al. 2021, arXiv 2005.08575), separate ones
Mockingjay (Liu et al. 2020, arXiv 1910.12638) and TERA (Liu et al. 2021, arXiv
2007.06028). Names of tensors follow the axes `batch, frames, width`.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aalbert.errors import require
from aalbert.models.front_end import frame_mask

# BERT's value; it also decides how closely published checkpoints are reproduced.
LAYER_NORM_EPSILON = 1e-12


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """The sizes of an encoder. `layers` counts applications, shared or not.

    `initial_std` is the deviation of the initial weights: BERT's 0.02 suits a width of
    768, a narrow encoder needs a larger one to leave its initial plateau.
    """

    layers: int = 3
    share_layers: bool = True
    width: int = 768
    heads: int = 12
    feed_forward_width: int = 3072
    activation: Literal["gelu", "relu"] = "gelu"
    dropout: float = 0.1
    initial_std: float = 0.02

    def __post_init__(self) -> None:
        for name in ("layers", "width", "heads", "feed_forward_width", "initial_std"):
            value = getattr(self, name)
            require(value > 0, f"encoder.{name} {value} must be above 0")
        require(0 <= self.dropout < 1, f"encoder.dropout {self.dropout} must be in [0, 1)")
        require(
            self.width % self.heads == 0 and self.width % 2 == 0,
            f"encoder.width {self.width} must be even and a multiple of encoder.heads {self.heads}",
        )


class SelfAttention(nn.Module):
    """Multi-head self-attention over real frames, `(batch, frames, width)` to the same."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.dropout = config.dropout
        self.query_key_value = nn.Linear(config.width, 3 * config.width)
        self.output = nn.Linear(config.width, config.width)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Attend to the frames where `mask (batch, 1, 1, frames)` is true."""
        batch, frames, width = hidden.shape
        projected = self.query_key_value(hidden).view(batch, frames, 3, self.heads, -1)
        query, key, value = projected.permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        context = F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, dropout_p=dropout
        )
        attended: Tensor = self.output(context.transpose(1, 2).reshape(batch, frames, width))
        return attended


class Layer(nn.Module):
    """Attention and a feed-forward network, each with a residual and a layer norm after it."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.attention = SelfAttention(config)
        self.attention_norm = nn.LayerNorm(config.width, eps=LAYER_NORM_EPSILON)
        self.expand = nn.Linear(config.width, config.feed_forward_width)
        self.activation = nn.GELU() if config.activation == "gelu" else nn.ReLU()
        self.contract = nn.Linear(config.feed_forward_width, config.width)
        self.feed_forward_norm = nn.LayerNorm(config.width, eps=LAYER_NORM_EPSILON)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Map `(batch, frames, width)` to the same shape."""
        hidden = self.attention_norm(hidden + self.dropout(self.attention(hidden, mask)))
        transformed = self.contract(self.activation(self.expand(hidden)))
        normed: Tensor = self.feed_forward_norm(hidden + self.dropout(transformed))
        return normed


class Encoder(nn.Module):
    """Projects inputs, adds positions, and applies `config.layers` layers.

    With `share_layers` there is one layer in memory, in the gradient and on disk.
    """

    def __init__(self, config: EncoderConfig, input_dims: int) -> None:
        super().__init__()
        self.config = config
        self.projection = nn.Linear(input_dims, config.width)
        self.input_norm = nn.LayerNorm(config.width, eps=LAYER_NORM_EPSILON)
        self.dropout = nn.Dropout(config.dropout)
        distinct = 1 if config.share_layers else config.layers
        self.layers = nn.ModuleList(Layer(config) for _ in range(distinct))
        initialise(self, config.initial_std)

    def forward(self, inputs: Tensor, lengths: Tensor) -> list[Tensor]:
        """Return every hidden state `(batch, frames, width)` of `inputs (batch, frames, dims)`.

        The first is the projected input, then one per layer: `layers + 1` in all.
        Padding has no influence on real frames.
        """
        frames = inputs.shape[1]
        mask = frame_mask(lengths, frames)[:, None, None, :]
        positions = sinusoidal_positions(frames, self.config.width, inputs.device)
        states = [self.dropout(self.input_norm(self.projection(inputs) + positions))]
        for index in range(self.config.layers):
            states.append(self.layers[index % len(self.layers)](states[-1], mask))
        return states


def sinusoidal_positions(frames: int, width: int, device: torch.device) -> Tensor:
    """Return `(frames, width)`: sine in even, cosine in odd dimensions (Vaswani et al. 2017).

    The angle at frame `p` in dimensions `2i` and `2i + 1` is `p / 10000^(2i / width)`.
    """
    time = torch.arange(frames, device=device, dtype=torch.float32).unsqueeze(1)
    even = torch.arange(0, width, 2, device=device, dtype=torch.float32)
    angles = time * torch.exp(even * (-math.log(10_000.0) / width))
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)


def initialise(module: nn.Module, std: float) -> None:
    """Initialise every linear layer as BERT does: normal weights of this deviation, zero biases."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=std)
            nn.init.zeros_(part.bias)
