"""An upstream that reads waves: a frozen encoder of another library."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from aalbert.errors import InputError, require_positive
from aalbert.models.frame_times import FrameTimes
from aalbert.models.static_batches import StaticShapes
from aalbert.models.wave_encoders.published_hours import STATED, published_hours

# Added to the variance of a wave, as the feature extractor of wav2vec 2.0 does.
LEAST_VARIANCE = 1e-7
# Waves that are computed at once on a CPU have about a minute in all, or are one alone: the first
# layers have hundreds of numbers for every few samples.
SAMPLES_AT_ONCE = 2**20
# An encoder tells by waves of these lengths what it gives.
TRIED_SECONDS = (1.0, 0.77)


@dataclass(frozen=True, kw_only=True)
class WaveFrames:
    """The frames that an encoder makes of samples at its rate.

    A wave of `least_samples`, to which a shorter one is padded with zeros, is one frame; every
    `stride_samples` there is one more. The centre of the first
    is `first_centre` samples after the beginning.
    """

    least_samples: int
    stride_samples: int
    first_centre: float

    def __post_init__(self) -> None:
        require_positive("frames.", self, "least_samples", "stride_samples")

    def count(self, samples: int) -> int:
        """Return the number of frames of a wave."""
        return max(0, samples - self.least_samples) // self.stride_samples + 1


@dataclass(frozen=True, kw_only=True)
class WaveUpstreamConfig:
    """What an encoder of another library is, and where it is: its weights are not copied.

    `name` finds it again (see `names`), `weights_xxh3` is the hash of what was found there. A wave
    that is to be `normalised` gets mean 0 and variance 1. With an `untrained_seed` the weights are
    fresh random ones by that seed.
    """

    name: str
    weights_xxh3: str
    software: str
    architecture: str
    parameters: int
    states: int
    width: int
    sample_rate: int
    frames: WaveFrames
    normalised: bool = False
    untrained_seed: int | None = None

    def __post_init__(self) -> None:
        require_positive("upstream.", self, "states", "width", "sample_rate")

    @property
    def training(self) -> Mapping[str, Any]:
        """The facts of its training: the hours that its authors state, where they are known."""
        hours = published_hours(self.name)
        return {} if hours is None else {"speech_hours": {STATED: hours}}

    def frame_times(self) -> FrameTimes:
        """Return the times of the frames of hidden states."""
        sample_ms = 1000 / self.sample_rate
        return FrameTimes(
            first_ms=self.frames.first_centre * sample_ms,
            shift_ms=self.frames.stride_samples * sample_ms,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as a JSON document."""
        return asdict(self)


class WaveUpstream(nn.Module):
    """A frozen module that turns waves into hidden states, every utterance alone.

    `encoder` gives the states `(frames, width)` of a wave `(samples,)`. Utterances are never
    padded to a common length: normalisation over time in the first layers of wav2vec 2.0 would
    let the padding change all frames.
    """

    def __init__(self, config: WaveUpstreamConfig, encoder: nn.Module) -> None:
        super().__init__()
        self.config = config
        # In a list it is no registered part: no checkpoint holds the weights of another place.
        self.encoders = [encoder.eval().requires_grad_(False)]
        self.register_buffer("mark", torch.empty(0), persistent=False)

    @property
    def states(self) -> int:
        """Number of hidden states that `forward` returns."""
        return self.config.states

    @property
    def width(self) -> int:
        """Numbers per frame of a hidden state."""
        return self.config.width

    def in_words(self) -> str:
        """Return what it is in one line."""
        return (
            f"{self.config.name}, {self.states} states, width {self.width}, "
            f"{self.config.parameters:,} parameters, on waves of {self.config.sample_rate:,} Hz"
        )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "WaveUpstream":
        """Move the encoder too, which is no registered part."""
        for encoder in self.encoders:
            encoder._apply(fn, recurse)  # type: ignore[no-untyped-call]
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def batch_shapes(self, device: torch.device) -> StaticShapes:
        """Return the shapes of batches whose numbers depend on nothing but the utterance.

        What they call frames is what a batch has along time: here samples.
        """
        return StaticShapes(batch_frames=1, frames_at_once=SAMPLES_AT_ONCE)

    def forward(self, waves: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return hidden states `(batch, frames, width)` and their lengths `(batch,)`.

        `waves (batch, samples, 1)` are at the rate of the encoder, `lengths (batch,)` in samples.
        """
        each = [
            self.states_of(wave[:length, 0])
            for wave, length in zip(waves.float(), lengths.tolist(), strict=True)
        ]
        padded = [
            nn.utils.rnn.pad_sequence(list(states), batch_first=True)
            for states in zip(*each, strict=True)
        ]
        return padded, lengths.new_tensor([len(states[0]) for states in each])

    def states_of(self, wave: Tensor) -> Sequence[Tensor]:
        """Return the hidden states `(frames, width)` of a wave `(samples,)`.

        Raises `InputError` when the encoder gives others than it gave when it was opened.
        """
        frames = self.config.frames
        if self.config.normalised:
            wave = normalise(wave)
        if len(wave) < frames.least_samples:
            wave = nn.functional.pad(wave, (0, frames.least_samples - len(wave)))
        states: Sequence[Tensor] = self.encoders[0](wave)
        expected = (frames.count(len(wave)), self.width)
        if len(states) != self.states or any(state.shape != expected for state in states):
            raise InputError(
                f"{self.config.name} gives {len(states)} hidden states of "
                f"{tuple(states[0].shape)} for {len(wave)} samples, {self.states} of {expected} "
                "were expected: an encoder whose frames are not those of its convolutions, at one "
                "rate, cannot be used"
            )
        return states


def normalise(wave: Tensor) -> Tensor:
    """Return a wave `(samples,)` with mean 0 and variance 1."""
    return (wave - wave.mean()) / (wave.var(correction=0) + LEAST_VARIANCE).sqrt()


@torch.no_grad()
def measure_states(name: str, encoder: nn.Module, sample_rate: int) -> tuple[int, int]:
    """Return the number and the width of the hidden states of an encoder.

    Raises `InputError` when they have several widths.
    """
    wave = torch.rand(sample_rate, generator=torch.Generator().manual_seed(0)) - 0.5
    states = encoder.eval()(wave)
    widths = sorted({state.shape[-1] for state in states})
    if len(widths) > 1:
        raise InputError(
            f"{name} has hidden states of {len(widths)} widths, from {widths[0]} to {widths[-1]}: "
            "a head reads states of one width"
        )
    return len(states), widths[0]


@torch.no_grad()
def require_frames(upstream: WaveUpstream) -> None:
    """Raise `InputError` unless the encoder makes the frames of a wave that its config says."""
    for seconds in TRIED_SECONDS:
        upstream.states_of(torch.zeros(round(seconds * upstream.config.sample_rate)))
