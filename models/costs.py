"""What a model costs: parameters, multiply-accumulates, memory. Computed from its sizes."""

from collections import Counter
from dataclasses import dataclass

from torch import nn

from aalbert.models.encoder import EncoderConfig
from aalbert.models.layout import chunk_count
from aalbert.models.upstream import Upstream

FLOAT32_BYTES = 4
# A weight is trained with its gradient and the two moments of AdamW.
TRAINED_NUMBERS = 4
# What the names of parameters say of the part they belong to; the first that fits counts.
PARTS = {
    "prediction heads": ("heads.",),
    "downstream head": ("head.",),
    "mask token": ("mask_token",),
    "input projection": ("encoder.projection.",),
    "positions": ("encoder.positions.",),
    "layer norms": ("_norm.", "_norms."),
    "attention": (".attention.",),
    "feed-forward network": (".expand.", ".contract."),
}


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Parameters of a model.

    `parts` and `stored` count a shared layer once, as it is in memory and on disk; `applied`
    counts it at every application, so it is what a model without sharing would have.
    """

    parts: dict[str, int]
    stored: int
    applied: int


def count_parts(model: nn.Module, upstream: Upstream) -> Parameters:
    """Count the parameters of a model, of which `upstream` is a part, by what they are for."""
    parts: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        parts[part_of(name)] += parameter.numel()
    stored = parts.total()
    repeated = 0
    if upstream.encoder is not None:
        in_layers = sum(parameter.numel() for parameter in upstream.encoder.layers.parameters())
        repeats = upstream.encoder.config.layers // len(upstream.encoder.layers) - 1
        repeated = in_layers * repeats
    return Parameters(parts=dict(parts), stored=stored, applied=stored + repeated)


def part_of(name: str) -> str:
    """Return the part that a parameter belongs to."""
    return next(
        (part for part, marks in PARTS.items() if any(mark in name for mark in marks)), "other"
    )


@dataclass(frozen=True, kw_only=True)
class Work:
    """Multiply-accumulates of an encoder over some frames, from its inputs to its last state.

    `attention` is what grows with the square of the length: scores, and sums of values.
    """

    input_projection: int
    layers: int
    attention: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.input_projection + self.layers + self.attention


def count_work(config: EncoderConfig, input_dims: int, frames: int) -> Work:
    """Count the work on an utterance of some encoder frames; sharing layers saves none of it.

    Additions of biases, norms and activations are left out, as usual.
    """
    width = config.width
    projections = 3 if config.share_query_key else 4
    matrices = projections * width * width + 2 * width * config.feed_forward_width
    chunks = chunk_count(frames, config.position_frames) if config.restarts else 1
    return Work(
        input_projection=frames * input_dims * width,
        layers=config.layers * frames * matrices,
        attention=config.layers * 2 * frames * frames * width // chunks,
    )


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes in float32: of the weights, of all that AdamW trains them with, of hidden states."""

    weights: int
    training: int
    states_per_second: int


def count_memory(parameters: Parameters, upstream: Upstream, frames_per_second: float) -> Memory:
    """Count what a model takes, without the activations in between."""
    weights = parameters.stored * FLOAT32_BYTES
    numbers = upstream.states * upstream.width * frames_per_second
    return Memory(
        weights=weights,
        training=weights * TRAINED_NUMBERS,
        states_per_second=round(numbers * FLOAT32_BYTES),
    )
