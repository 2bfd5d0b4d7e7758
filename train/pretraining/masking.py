"""Masks: the frames and bands to be predicted, and the values that the encoder reads instead."""

from dataclasses import dataclass

import torch
from torch import Tensor

from aalbert.models.layout import Packed
from aalbert.shards.loading.batch import Batch
from aalbert.train.pretraining.config import MaskingConfig
from aalbert.train.randomness import Draws, normal, random_bits, uniform, uniform_integer


@dataclass(frozen=True)
class Frames:
    """The utterance and the position of every frame of a flattened batch.

    `utterance` and `position` `(frames,)` are the index of a frame's utterance in the batch and the
    frame's index in it; `first` and `lengths` `(batch,)` are the place on the axis at which each
    utterance begins and its number of frames, at most `longest`. Frames past a length are padding.
    """

    utterance: Tensor
    position: Tensor
    first: Tensor
    lengths: Tensor
    longest: int

    @property
    def real(self) -> Tensor:
        """True for every frame that is not padding, `(frames,)`."""
        return self.position < self.lengths[self.utterance]

    def flatten(self, grid: Tensor) -> Tensor:
        """Return `(frames,)` values of `(batch, longest)` ones; those of padding are arbitrary."""
        place = self.position.clamp(max=self.longest - 1)
        return grid.reshape(-1)[self.utterance * self.longest + place]


def layout_of(batch: Batch) -> Tensor | Packed:
    """Return the lengths of a padded batch, or the layout of a packed one."""
    packed = batch.features.ndim == 2
    return Packed(batch.offsets, batch.longest) if packed else batch.lengths


def frames_of(batch: Tensor, layout: Tensor | Packed) -> Frames:
    """Return the frames of a batch, padded `(batch, frames, dims)` or packed `(frames, dims)`.

    The first two axes of a padded batch become one. Frames of a packed batch that belong to no
    utterance are padding of the last one.
    """
    if isinstance(layout, Packed):
        count = len(batch)
        utterance = layout.utterances(count).clamp(max=len(layout.offsets) - 2)
        first = layout.offsets[:-1].long()
        time = torch.arange(count, device=first.device)
        return Frames(utterance, time - first[utterance], first, layout.lengths, layout.longest)
    size, longest = batch.shape[:2]
    time = torch.arange(size * longest, device=layout.device)
    first = torch.arange(size, device=layout.device) * longest
    return Frames(time // longest, time % longest, first, layout, longest)


@dataclass(frozen=True)
class Mask:
    """The mask of a batch whose frames lie on one axis.

    `frames` are predicted; of these `zeroed` are set to zero and `replaced` are copied from the
    places `source` on the axis (all `(frames,)`). `bands (batch, dims)` are predicted in all frames
    of their utterance, None if no bands are hidden.
    """

    frames: Tensor
    zeroed: Tensor
    replaced: Tensor
    source: Tensor
    bands: Tensor | None

    def band_elements(self, frames: Frames, dims: int) -> Tensor | None:
        """Return the hidden elements `(frames, dims)` of the bands, in every part of a frame.

        The parts, each as wide as the stored feature, are its deltas and the stacked frames.
        """
        if self.bands is None:
            return None
        return self.bands.repeat(1, dims // self.bands.shape[1])[frames.utterance]


@dataclass(frozen=True)
class Spans:
    """The chosen spans: the frames `inside (batch, frames)`, and for each the `start` of its span.

    `last_start (batch,)` is the last frame at which a span may begin.
    """

    inside: Tensor
    start: Tensor
    last_start: Tensor


def draw_mask(frames: Frames, dims: int, config: MaskingConfig, draws: Draws) -> Mask:
    """Draw the mask of a batch of features with `dims` dimensions, on its device.

    Every utterance gets at least one span, and padding is never masked. Nothing waits for the
    device.
    """
    spans = draw_spans(frames.lengths, frames.longest, config, draws)
    keys = draws.keys("branch").unsqueeze(1)
    decided_at = spans.start if config.decide_per == "span" else torch.zeros_like(spans.start)
    decision = frames.flatten(uniform(random_bits(keys, decided_at)))
    inside = frames.flatten(spans.inside) & frames.real
    kept = decision >= 1 - config.keep_share
    zeroed = decision < 1 - config.keep_share - config.random_share
    return Mask(
        frames=inside,
        zeroed=inside & zeroed,
        replaced=inside & ~zeroed & ~kept,
        source=frames.first[frames.utterance] + frames.flatten(draw_sources(spans, draws)),
        bands=draw_bands(dims, config, draws) if config.band_share else None,
    )


def draw_spans(lengths: Tensor, longest: int, config: MaskingConfig, draws: Draws) -> Spans:
    """Draw spans of utterances of `lengths (batch,)`; one shorter than a span is hidden as a whole.

    Spans start at distinct frames, and lie within the utterance if it is long enough.
    """
    shortest, widest = config.span_range
    span = shortest + uniform_integer(draws.keys("span"), widest - shortest + 1)
    count = (lengths * config.proportion / span).round().clamp(min=1)
    last_start = (lengths - span).clamp(min=0)
    time = torch.arange(longest, device=lengths.device)
    allowed = time <= last_start.unsqueeze(1)
    if config.bucket_ratio:
        allowed &= on_grid(time, (span * config.bucket_ratio).round().long(), last_start, draws)
    # Random numbers without their sign, of which the highest are chosen.
    scores = random_bits(draws.keys("start").unsqueeze(1), time) & (2**63 - 1)
    scores = scores.masked_fill(~allowed, -1)
    rank = scores.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    chosen = (rank < count.unsqueeze(1)) & allowed
    start = time.where(chosen, -longest - widest).cummax(dim=1).values
    inside = (time - start < span.unsqueeze(1)) & (time < lengths.unsqueeze(1))
    return Spans(inside, start, last_start)


def on_grid(time: Tensor, step: Tensor, last_start: Tensor, draws: Draws) -> Tensor:
    """Return which frames lie on a grid of `step (batch,)` frames at a random phase."""
    phase = uniform_integer(draws.keys("phase"), step.minimum(last_start + 1)).unsqueeze(1)
    return (time >= phase) & ((time - phase) % step.unsqueeze(1) == 0)


def draw_sources(spans: Spans, draws: Draws) -> Tensor:
    """Return for each frame of a span the frame of the utterance that may replace it.

    A span is replaced by another one of the utterance, frame by frame.
    """
    bits = random_bits(draws.keys("source").unsqueeze(1), spans.start)
    elsewhere = uniform_integer(bits, spans.last_start.unsqueeze(1) + 1)
    time = torch.arange(spans.start.shape[1], device=bits.device)
    return (elsewhere + time - spans.start).where(spans.inside, time)


def draw_bands(dims: int, config: MaskingConfig, draws: Draws) -> Tensor:
    """Draw a band of each utterance, from none to `band_share` of the dims: `(batch, dims)`."""
    width = uniform_integer(draws.keys("band width"), int(dims * config.band_share) + 1)
    start = uniform_integer(draws.keys("band start"), dims - width + 1)
    bins = torch.arange(dims, device=width.device) - start.unsqueeze(1)
    return (bins >= 0) & (bins < width.unsqueeze(1))


def corrupt(
    inputs: Tensor,
    mask: Mask,
    frames: Frames,
    config: MaskingConfig,
    draws: Draws,
    token: Tensor | None = None,
) -> Tensor:
    """Return `inputs (frames, dims)` with the masked frames and bands replaced.

    `token (dims,)` replaces zeroed frames. A band is hidden in every part of an input: in the
    deltas of its dimensions too, and in each of the stacked frames.
    """
    inputs = inputs[mask.source].where(mask.replaced.unsqueeze(1), inputs)
    absent = inputs.new_zeros(inputs.shape[1]) if token is None else token.to(inputs.dtype)
    inputs = absent.where(mask.zeroed.unsqueeze(1), inputs)
    bands = mask.band_elements(frames, inputs.shape[1])
    if bands is not None:
        inputs = inputs.masked_fill(bands, 0.0)
    if config.noise_share:
        inputs = inputs + noise(frames, inputs.shape[1], config, draws)
    return inputs


def noise(frames: Frames, dims: int, config: MaskingConfig, draws: Draws) -> Tensor:
    """Return the noise `(frames, dims)` of the utterances that get some, zeros for the others."""
    noisy = uniform(draws.keys("noise")) < config.noise_share
    keys = random_bits(draws.keys("noise of a frame")[frames.utterance], frames.position)
    bits = random_bits(keys.unsqueeze(1), torch.arange(dims, device=keys.device))
    scale = (noisy[frames.utterance] & frames.real) * config.noise_std
    return normal(bits) * scale.unsqueeze(1)
