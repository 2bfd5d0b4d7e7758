"""Masks for reconstruction: which frames and bands are to be predicted."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from aalbert.errors import require
from aalbert.train.frames import Frames
from aalbert.train.randomness import Draws, random_bits, uniform, uniform_integer

# Draws without their sign: scores of which the highest are taken.
LARGEST = 2**63 - 1


@dataclass(frozen=True, kw_only=True)
class MaskingConfig:
    """What is hidden, and what stands in its place; the defaults are s3prl's.

    Of each utterance's encoder frames, `proportion` are chosen in spans of `consecutive`, or, with
    a range such as [3, 9], of a length that is drawn for each utterance. Spans may overlap, so a
    little less is hidden; with a `bucket_ratio` they lie on a grid of that many span lengths, at a
    random phase, and do not. In place of a span come zeros, or, with `random_share`, other frames
    of the utterance, or, with `keep_share`, nothing; one draw decides for all spans of an
    utterance, or for each, as `decide_per` says. `learned_token` adds a learned vector to the
    zeros. TERA's are the other two: in each utterance a band of up to `band_share` of its
    dimensions is zeroed and to be predicted too, and a share `noise_share` of the utterances gets
    normal noise of deviation `noise_std`.
    """

    proportion: float = 0.15
    consecutive: int | tuple[int, int] = 7
    bucket_ratio: float | None = None
    random_share: float = 0.1
    keep_share: float = 0.1
    decide_per: Literal["utterance", "span"] = "utterance"
    learned_token: bool = False
    band_share: float = 0.0
    noise_share: float = 0.0
    noise_std: float = 0.2

    def __post_init__(self) -> None:
        require(
            0 < self.proportion < 1,
            f"masking.proportion {self.proportion} must be between 0 and 1",
        )
        low, high = self.span_range
        require(
            1 <= low <= high,
            f"masking.consecutive {self.consecutive} must be at least 1, or a rising range",
        )
        self._check_shares()
        ratio = self.bucket_ratio
        require(
            ratio is None or (ratio >= 1 and self.proportion * ratio <= 1),
            f"masking.bucket_ratio {ratio} must be at least 1, and at most {1 / self.proportion:g} "
            f"to leave room for masking.proportion {self.proportion}",
        )

    def _check_shares(self) -> None:
        for name in ("random_share", "keep_share", "band_share", "noise_share"):
            value = getattr(self, name)
            require(0 <= value <= 1, f"masking.{name} {value} must be between 0 and 1")
        require(
            self.random_share + self.keep_share <= 1,
            f"masking.random_share {self.random_share} and masking.keep_share "
            f"{self.keep_share} must together be at most 1",
        )
        require(self.noise_std > 0, f"masking.noise_std {self.noise_std} must be above 0")

    @property
    def span_range(self) -> tuple[int, int]:
        """The shortest and the longest span."""
        spans = self.consecutive
        return spans if isinstance(spans, tuple) else (spans, spans)


@dataclass(frozen=True)
class Mask:
    """What is hidden of a batch whose frames lie on one axis.

    `frames` are to be predicted; of them `zeroed` are taken away and `replaced` come from the
    places `source` on the axis (all `(frames,)`). `bands (batch, dims)` are to be predicted in
    all frames of their utterance, None where no bands are hidden.
    """

    frames: Tensor
    zeroed: Tensor
    replaced: Tensor
    source: Tensor
    bands: Tensor | None


@dataclass(frozen=True)
class Spans:
    """The chosen spans: `inside (batch, frames)` and, for these, the `start` of the span.

    `last_start (batch,)` is the last frame at which a span may begin.
    """

    inside: Tensor
    start: Tensor
    last_start: Tensor


def draw_mask(frames: Frames, dims: int, config: MaskingConfig, draws: Draws) -> Mask:
    """Choose what is hidden of a batch of features with `dims` dimensions, on its device.

    Every utterance gets at least one span, and no mask touches padding. The device is not waited
    for.
    """
    spans = draw_spans(frames.lengths, frames.longest, config, draws)
    keys = draws.keys("branch").unsqueeze(1)
    decided_at = spans.start if config.decide_per == "span" else torch.zeros_like(spans.start)
    dice = frames.flatten(uniform(random_bits(keys, decided_at)))
    inside = frames.flatten(spans.inside) & frames.real
    kept = dice >= 1 - config.keep_share
    zeroed = dice < 1 - config.keep_share - config.random_share
    return Mask(
        frames=inside,
        zeroed=inside & zeroed,
        replaced=inside & ~zeroed & ~kept,
        source=frames.first[frames.utterance] + frames.flatten(draw_sources(spans, draws)),
        bands=draw_bands(dims, config, draws) if config.band_share else None,
    )


def draw_spans(lengths: Tensor, longest: int, config: MaskingConfig, draws: Draws) -> Spans:
    """Choose spans of utterances of `lengths (batch,)`; a short one is hidden as a whole.

    Spans start at distinct frames, and inside the utterance where it is long enough to hold one.
    """
    shortest, widest = config.span_range
    span = shortest + uniform_integer(draws.keys("span"), widest - shortest + 1)
    count = (lengths * config.proportion / span).round().clamp(min=1)
    last_start = (lengths - span).clamp(min=0)
    time = torch.arange(longest, device=lengths.device)
    allowed = time <= last_start.unsqueeze(1)
    if config.bucket_ratio:
        allowed &= on_grid(time, (span * config.bucket_ratio).round().long(), last_start, draws)
    scores = random_bits(draws.keys("start").unsqueeze(1), time) & LARGEST
    scores = scores.masked_fill(~allowed, -1)
    rank = scores.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    chosen = (rank < count.unsqueeze(1)) & allowed
    start = time.where(chosen, -longest - widest).cummax(dim=1).values
    inside = (time - start < span.unsqueeze(1)) & (time < lengths.unsqueeze(1))
    return Spans(inside, start, last_start)


def on_grid(time: Tensor, step: Tensor, last_start: Tensor, draws: Draws) -> Tensor:
    """Say which frames lie on a grid of `step (batch,)` frames at a random phase."""
    phase = uniform_integer(draws.keys("phase"), step.minimum(last_start + 1)).unsqueeze(1)
    return (time >= phase) & ((time - phase) % step.unsqueeze(1) == 0)


def draw_sources(spans: Spans, draws: Draws) -> Tensor:
    """Return, for frames of spans, the frame of the utterance that may take its place.

    A span is replaced by one from elsewhere in the utterance, frame by frame.
    """
    bits = random_bits(draws.keys("source").unsqueeze(1), spans.start)
    elsewhere = uniform_integer(bits, spans.last_start.unsqueeze(1) + 1)
    time = torch.arange(spans.start.shape[1], device=bits.device)
    return (elsewhere + time - spans.start).where(spans.inside, time)


def draw_bands(dims: int, config: MaskingConfig, draws: Draws) -> Tensor:
    """Choose a band of each utterance, from none to `band_share` of the dims: `(batch, dims)`."""
    width = uniform_integer(draws.keys("band width"), int(dims * config.band_share) + 1)
    start = uniform_integer(draws.keys("band start"), dims - width + 1)
    bins = torch.arange(dims, device=width.device) - start.unsqueeze(1)
    return (bins >= 0) & (bins < width.unsqueeze(1))
