"""The encoder as the reference systems compute it: eager, padded, in float32.

Separate projections of queries, keys and values, an additive mask, an explicit softmax, layer
norms after the residuals. It is only a baseline for measurements; its hidden states are compared
with ours before anything is timed.
"""

import math

import torch
from torch import Tensor, nn

from aalbert.models.encoder import LAYER_NORM_EPSILON, Encoder
from aalbert.models.encoder_config import EncoderConfig
from aalbert.models.positions import sinusoids

# Added to the score of a padding frame before the softmax.
MASKED_SCORE = -10_000.0


class BaselineLayer(nn.Module):
    """One layer: attention and feed-forward network."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.heads, width = config.heads, config.width
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.attended = nn.Linear(width, width)
        self.attention_norm = nn.LayerNorm(width, eps=LAYER_NORM_EPSILON)
        self.expand = nn.Linear(width, config.feed_forward_width)
        self.contract = nn.Linear(config.feed_forward_width, width)
        self.output_norm = nn.LayerNorm(width, eps=LAYER_NORM_EPSILON)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Map `(batch, frames, width)` to the same; `mask` is added to the scores."""
        query, key, value = (
            self.by_head(project(hidden)) for project in (self.query, self.key, self.value)
        )
        scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
        context = torch.softmax(scores + mask, dim=-1) @ value
        joined = context.transpose(1, 2).contiguous().view(hidden.shape)
        hidden = self.attention_norm(hidden + self.attended(joined))
        inner = self.expand(hidden)
        inner = inner * 0.5 * (1.0 + torch.erf(inner / math.sqrt(2.0)))
        normed: Tensor = self.output_norm(hidden + self.contract(inner))
        return normed

    def by_head(self, projected: Tensor) -> Tensor:
        """Map `(batch, frames, width)` to `(batch, heads, frames, head width)`."""
        batch, frames, _ = projected.shape
        return projected.view(batch, frames, self.heads, -1).transpose(1, 2)


class BaselineEncoder(nn.Module):
    """The whole encoder, with the weights of ours."""

    def __init__(self, ours: Encoder) -> None:
        super().__init__()
        self.config = config = ours.config
        assert isinstance(ours.projection, nn.Linear)
        self.projection = nn.Linear(ours.projection.in_features, config.width)
        self.input_norm = nn.LayerNorm(config.width, eps=LAYER_NORM_EPSILON)
        self.layers = nn.ModuleList(BaselineLayer(config) for _ in ours.layers)
        self.projection.load_state_dict(ours.projection.state_dict())
        for mine, theirs in zip(self.layers, ours.layers, strict=True):
            mine.load_state_dict(weights_of(theirs.state_dict()))

    def forward(self, inputs: Tensor, lengths: Tensor) -> list[Tensor]:
        """Return every hidden state of `inputs (batch, frames, dims)`."""
        frames = inputs.shape[1]
        real = torch.arange(frames, device=inputs.device) < lengths.unsqueeze(1)
        mask = (1.0 - real.float())[:, None, None, :] * MASKED_SCORE
        positions = sinusoids(frames, self.config.width).to(inputs.device)
        states = [self.input_norm(self.projection(inputs) + positions)]
        for index in range(self.config.layers):
            states.append(self.layers[index % len(self.layers)](states[-1], mask))
        return states


def weights_of(layer: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of one of our layers by the names of `BaselineLayer`."""
    names = {
        "attended": "attention.output",
        "attention_norm": "attention_norm",
        "expand": "expand",
        "contract": "contract",
        "output_norm": "feed_forward_norm",
    }
    weights = {}
    for kind in ("weight", "bias"):
        parts = layer[f"attention.query_key_value.{kind}"].chunk(3)
        for name, part in zip(("query", "key", "value"), parts, strict=True):
            weights[f"{name}.{kind}"] = part
        for name, ours in names.items():
            weights[f"{name}.{kind}"] = layer[f"{ours}.{kind}"]
    return weights
