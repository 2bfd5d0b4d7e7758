"""The costs of a model, computed from its sizes: parameters, multiply-accumulates, memory."""

from collections import Counter
from dataclasses import dataclass

import torch
from torch import nn

from aalbert.models.encoder_config import EncoderConfig
from aalbert.models.layout import chunk_frames
from aalbert.models.upstream import Upstream, UpstreamConfig

# Work grows with the length of an utterance; those of LibriSpeech are about this long.
REFERENCE_SECONDS = 10.0
FLOAT32_BYTES = 4
# Each weight is trained with its gradient and two moments of AdamW.
NUMBERS_PER_TRAINED_WEIGHT = 4
# The part of a model that a parameter belongs to, by substrings of its name (first match).
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
    """The numbers of parameters of a model.

    `parts` and `stored` count a shared layer once, as in memory and on disk; `applied` counts it
    at every application, as in a model without sharing.
    """

    parts: dict[str, int]
    stored: int
    applied: int


def count_parts(model: nn.Module, upstream: Upstream) -> Parameters:
    """Count the parameters of a model that contains `upstream`, by part."""
    parts: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        matches = (part for part, marks in PARTS.items() if any(mark in name for mark in marks))
        parts[next(matches, "other")] += parameter.numel()
    stored = parts.total()
    repeated = 0
    if upstream.encoder is not None:
        in_layers = sum(parameter.numel() for parameter in upstream.encoder.layers.parameters())
        repeats = upstream.encoder.config.layers // len(upstream.encoder.layers) - 1
        repeated = in_layers * repeats
    return Parameters(parts=dict(parts), stored=stored, applied=stored + repeated)


@dataclass(frozen=True, kw_only=True)
class Work:
    """Multiply-accumulates of an encoder for a number of frames, from inputs to last state.

    `attention` is the part that is quadratic in the length: scores, and weighted sums of values.
    """

    input_projection: int
    layers: int
    attention: int

    @property
    def total(self) -> int:
        """All multiply-accumulates."""
        return self.input_projection + self.layers + self.attention


def count_work(config: EncoderConfig, input_dims: int, frames: int) -> Work:
    """Count the work on an utterance of `frames` encoder frames; sharing layers does not reduce it.

    Biases, norms and activations are left out, as usual.
    """
    width = config.width
    projections = 3 if config.share_query_key else 4
    matrices = projections * width * width + 2 * width * config.feed_forward_width
    squared_frames = sum(size**2 for size in chunk_sizes(frames, config.chunk_frames))
    projection = (
        input_dims * width
        if config.input_width is None
        else (input_dims + width) * config.input_width
    )
    return Work(
        input_projection=frames * projection,
        layers=config.layers * frames * matrices,
        attention=config.layers * 2 * squared_frames * width,
    )


def chunk_sizes(frames: int, most_frames: int | None) -> list[int]:
    """Return the sizes of the chunks that an utterance is cut into, without their padding."""
    if most_frames is None:
        return [frames]
    size = int(chunk_frames(torch.tensor(frames), most_frames))
    return [min(size, frames - start) for start in range(0, frames, size)]


def upstream_work(config: UpstreamConfig) -> Work:
    """Count the work of an upstream on an utterance of `REFERENCE_SECONDS`, from stored features.

    Plain features have none.
    """
    if config.encoder is None:
        return Work(input_projection=0, layers=0, attention=0)
    front_end = config.front_end
    frames = round(REFERENCE_SECONDS * 1000 / config.features["frame_shift_ms"])
    encoder_frames = max(1, frames // front_end.frames_stacked)
    return count_work(config.encoder, front_end.input_dims, encoder_frames)


def macs_per_second(config: UpstreamConfig) -> int:
    """Return the multiply-accumulates of an upstream for a second of `REFERENCE_SECONDS`."""
    return round(upstream_work(config).total / REFERENCE_SECONDS)


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes in float32: weights, weights with gradients and AdamW's moments, hidden states."""

    weights: int
    training: int
    states_per_second: int


def count_memory(parameters: Parameters, upstream: Upstream, frames_per_second: float) -> Memory:
    """Compute the memory of a model, without intermediate activations."""
    weights = parameters.stored * FLOAT32_BYTES
    numbers = upstream.states * upstream.width * frames_per_second
    return Memory(
        weights=weights,
        training=weights * NUMBERS_PER_TRAINED_WEIGHT,
        states_per_second=round(numbers * FLOAT32_BYTES),
    )
