"""A model that reads waves: audio, features and hidden states in one object.

`load.py` opens one. The features are computed with the settings that are saved with the
model, including loudness.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, TypeVar, overload

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from aalbert.errors import ConfigError, InputError, require
from aalbert.models.finite import require_finite
from aalbert.models.static_batches import StaticShapes, static_batches
from aalbert.models.upstream import Upstream
from aalbert.pipeline.audio.conditioning import condition
from aalbert.pipeline.audio.decode import resample
from aalbert.pipeline.audio.features import check_long_enough, extract
from aalbert.pipeline.audio.recording import UnusableAudioError
from aalbert.shards.format.feature_settings import (
    FASTEST_SAMPLE_RATE,
    SLOWEST_SAMPLE_RATE,
    FeatureSettings,
    settings_from_dict,
)

Features = NDArray[np.float32]
WaveLike = Tensor | NDArray[Any] | ArrayLike
Layers = int | Literal["all", "last", "mean", "weighted"]
EmbeddingPooling = Literal["none", "mean", "mean+std"]
POOLINGS: tuple[EmbeddingPooling, ...] = ("none", "mean", "mean+std")
INT16_SCALE = 32_768
Item = TypeVar("Item")


class EmbeddingModel(nn.Module):
    """Computes the hidden states of waves.

    `model` is the model in the checkpoint, `upstream` its part from features to hidden
    states. `layer_weights (states,)` is the mix that a downstream task has learned, if the
    checkpoint is one of a downstream run with a mix. `fingerprint` identifies its
    configuration and weights, `place` is the path or URL that it was opened from, without secrets.
    """

    def __init__(
        self,
        model: nn.Module,
        upstream: Upstream,
        layer_weights: Tensor | None = None,
        fingerprint: str = "",
        place: str = "",
    ) -> None:
        super().__init__()
        self.fingerprint = fingerprint
        self.place = place
        self.model = model
        self.upstream = upstream
        self.layer_weights: Tensor | None
        self.register_buffer("layer_weights", layer_weights, persistent=False)
        self.settings: FeatureSettings = settings_from_dict(upstream.config.features)
        upstream.config.require_dims(self.settings.dims)
        self.eval()

    def __repr__(self) -> str:
        place = f"{self.place!r}: " if self.place else ""
        return (
            f"EmbeddingModel({place}{self.upstream.in_words()}; waves of {self.sample_rate:,} Hz "
            f"to a state every {self.frame_shift_ms:g} ms, on {self.device})"
        )

    @property
    def layers(self) -> int:
        """Layers of the encoder; there is one more hidden state, the projected input."""
        return self.upstream.states - 1

    @property
    def width(self) -> int:
        """Numbers per frame of a hidden state."""
        return self.upstream.width

    @property
    def sample_rate(self) -> int:
        """Samples per second of the waves that the features are computed from."""
        return self.settings.sample_rate

    @property
    def frame_shift_ms(self) -> float:
        """Time from one frame of a hidden state to the next."""
        return self.settings.frame_shift_ms * self.upstream.config.front_end.frames_stacked

    @property
    def device(self) -> torch.device:
        """The device of the model; waves may be on any other."""
        return self.upstream.front_end.mean.device

    @overload
    def extract(
        self,
        wave: list[Any] | tuple[Any, ...],
        sample_rate: int = ...,
        *,
        layers: Layers = ...,
        pooling: EmbeddingPooling = ...,
    ) -> list[Tensor]: ...
    @overload
    def extract(
        self,
        wave: Tensor | NDArray[Any],
        sample_rate: int = ...,
        *,
        layers: Layers = ...,
        pooling: EmbeddingPooling = ...,
    ) -> Tensor: ...
    def extract(
        self,
        wave: WaveLike | Sequence[WaveLike],
        sample_rate: int = 16_000,
        *,
        layers: Layers = "all",
        pooling: EmbeddingPooling = "none",
    ) -> Tensor | list[Tensor]:
        """Return the hidden states of a wave `(samples,)`, or a list of those of a list of waves.

        Waves are NumPy arrays or tensors, floats in [-1, 1) or int16, of one channel; at
        another rate than the model's they are resampled. The result is float32, on the
        model's device, without gradient:

        | layers | shape | with pooling |
        |---|---|---|
        | `"all"` | `(layers + 1, frames, width)` | `(layers + 1, width)` |
        | a number, `"last"`, `"mean"`, `"weighted"` | `(frames, width)` | `(width,)` |

        State 0 is the projected input, state `n` the output of layer `n`, -1 the last one; layers
        `"mean"` is the mean of all states. Pooling `"mean"` averages over frames, `"mean+std"`
        appends the population standard deviation, which gives `2 * width` numbers. The result
        for a wave is bit-identical, whatever other waves are in the list.

        Raises `InputError` for a wave that has another shape, is shorter than one analysis
        window, or holds a number that is not finite; `ConfigError` for a layer that does not exist;
        `DivergedError` when the model's weights give numbers that are not finite.
        """
        check_choice(self, layers, pooling)
        single, waves = as_list(wave)
        features = ((number, self.features(each, sample_rate)) for number, each in enumerate(waves))
        found = {
            number: pool(self.choose(states, layers), pooling)
            for number, states in self.embed(features)
        }
        results = [found[number] for number in range(len(waves))]
        for number, result in enumerate(results):
            require_finite(result, "the wave" if single else f"wave {number}")
        return results[0] if single else results

    def features(self, wave: WaveLike, sample_rate: int) -> Features:
        """Return the features `(frames, dims)` that the model reads, of a wave `(samples,)`."""
        try:
            return self.features_of(self.samples_of(wave, sample_rate))
        except UnusableAudioError as error:
            raise InputError(f"the wave is {error}") from error

    def samples_of(self, wave: WaveLike, sample_rate: int) -> Features:
        """Return a wave `(samples,)` at the model's rate, in float32."""
        require(
            SLOWEST_SAMPLE_RATE <= sample_rate <= FASTEST_SAMPLE_RATE,
            f"sample_rate is {sample_rate}: it must be {SLOWEST_SAMPLE_RATE} to "
            f"{FASTEST_SAMPLE_RATE} Hz",
        )
        samples = as_samples(wave)
        if sample_rate != self.sample_rate:
            samples = resample(samples, sample_rate, self.sample_rate)
        return samples

    def features_of(self, samples: Features) -> Features:
        """Return the features of samples at the model's rate; `UnusableAudioError` if too short."""
        samples = condition(samples, self.sample_rate, self.settings.wave)
        check_long_enough(samples, [self.settings])
        return extract(samples, self.settings)

    @torch.no_grad()
    def embed(
        self, utterances: Iterable[tuple[Item, Features]], shapes: StaticShapes | None = None
    ) -> Iterator[tuple[Item, list[Tensor]]]:
        """Yield every utterance's hidden states, `(frames, width)` each, in any order.

        `shapes` are those of the batches; by default they depend on the device.
        """
        stacked = self.upstream.config.front_end.frames_stacked
        tensors = ((item, torch.from_numpy(features)) for item, features in utterances)
        for batch in static_batches(tensors, shapes or StaticShapes.on(self.device, stacked)):
            states, lengths = self.upstream(
                batch.features.to(self.device), batch.lengths.to(self.device)
            )
            for row, (item, length) in enumerate(zip(batch.items, lengths.tolist(), strict=False)):
                yield item, [state[row, :length] for state in states]

    def choose(self, states: Sequence[Tensor], layers: Layers) -> Tensor:
        """Return the states that `layers` selects: one, their mix, or all of them stacked."""
        if layers == "all":
            return torch.stack(list(states))
        if layers == "mean":
            return torch.stack(list(states)).mean(dim=0)
        if layers == "weighted":
            assert self.layer_weights is not None
            return torch.einsum("s,s...->...", self.layer_weights, torch.stack(list(states)))
        return states[-1 if layers == "last" else layers].clone()

    def forward(
        self, waves: Sequence[WaveLike], sample_rate: int = 16_000
    ) -> tuple[list[Tensor], Tensor]:
        """Return padded hidden states `(batch, frames, width)` with gradient, and their lengths."""
        features = [torch.from_numpy(self.features(wave, sample_rate)) for wave in waves]
        lengths = torch.tensor([len(each) for each in features], device=self.device)
        padded = nn.utils.rnn.pad_sequence(features, batch_first=True).to(self.device)
        states, state_lengths = self.upstream(padded, lengths)
        return list(states), state_lengths


def as_list(wave: Any) -> tuple[bool, Sequence[Any]]:
    """Return whether a single wave was given, and a list of the waves.

    Raises `InputError` for a pair of a wave and its rate.
    """
    if isinstance(wave, tuple) and len(wave) == 2 and np.ndim(wave[1]) == 0:
        raise InputError(
            f"a wave and its rate, {wave[1]}, are no list of waves: give the rate apart"
        )
    single = not isinstance(wave, (list, tuple))
    return single, [wave] if single else wave


def as_samples(wave: WaveLike) -> Features:
    """Return a wave as float32 samples `(samples,)`; `InputError` when it is not valid."""
    if isinstance(wave, Tensor):
        # NumPy has no bfloat16.
        wave = wave.detach().float() if wave.dtype == torch.bfloat16 else wave.detach()
        wave = wave.cpu().numpy()
    try:
        array = np.asarray(wave)
    except ValueError as error:
        raise InputError(
            "a wave is no array of numbers: give one channel, (samples,), and the rate apart"
        ) from error
    if array.ndim != 1:
        raise InputError(f"a wave has the shape {array.shape}: give one channel, (samples,)")
    if len(array) == 0:
        raise InputError("the wave is empty: it has no samples")
    if array.dtype.kind == "i" and array.dtype.itemsize == 2:
        return array.astype(np.float32) / np.float32(INT16_SCALE)
    if array.dtype.kind != "f":
        raise InputError(
            f"a wave has numbers of type {array.dtype}: give floats in [-1, 1) or int16"
        )
    with np.errstate(over="ignore"):
        samples = np.ascontiguousarray(array, np.float32)
    if not np.isfinite(samples).all():
        raise InputError(
            "the wave holds samples that are not finite in float32 (NaN, infinity or beyond 3e38)"
        )
    return samples


def check_choice(model: EmbeddingModel, layers: Layers, pooling: EmbeddingPooling) -> None:
    """Raise `ConfigError` for hidden states that the model lacks, or an unknown pooling."""
    require(pooling in POOLINGS, f"unknown pooling '{pooling}': use one of {', '.join(POOLINGS)}")
    states = model.upstream.states
    if layers == "weighted":
        require(
            model.layer_weights is not None,
            "layers is weighted, and this model has no learned mix: give the folder of a "
            "downstream run with --layers weighted, or choose a layer",
        )
    elif isinstance(layers, str):
        require(
            layers in ("all", "last", "mean"),
            f"unknown layers '{layers}': use all, last, mean, weighted or a number",
        )
    elif not -states <= layers < states:
        raise ConfigError(
            f"there is no layer {layers}: hidden states are numbered 0 (the projected input) "
            f"to {states - 1} (the last layer)"
        )


def pool(hidden: Tensor, pooling: EmbeddingPooling) -> Tensor:
    """Pool `(..., frames, width)` over its frames."""
    if pooling == "none":
        return hidden
    mean = hidden.mean(dim=-2)
    if pooling == "mean":
        return mean
    return torch.cat([mean, hidden.std(dim=-2, correction=0)], dim=-1)
