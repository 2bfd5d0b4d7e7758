"""Waves to features: what computes each kind, and the tables that most of them need.

These kinds begin with the power of a short-time spectrum, computed by the kernel in C: frames of
the wave, times a window, the squared magnitude of their FFT.

| kind | framing | after the power spectrum `p` | the same in torch and torchaudio |
|---|---|---|---|
| `logmel` | `centred_framing` | `ln(htk_filters . p + log_offset)` | `stft`, `melscale_fbanks` |
| `linear` | `centred_framing` | `ln(p + log_offset)` | `stft` |
| `fbank` | `kaldi_framing` | `ln(max(kaldi_filters . p, 2**-23))` | `compliance.kaldi.fbank` |
| `mfcc` | `kaldi_framing` | `cosine_transform . fbank` | `compliance.kaldi.mfcc` |

They agree within float32 rounding. The numbers are the same bits on every processor. Where the
kernel is not built PyTorch computes them, for models only: other bits, and slower.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aalbert import kernel
from aalbert.errors import AalbertWarning
from aalbert.pipeline.audio.recording import UnusableAudioError
from aalbert.shards.format.feature_settings import (
    KALDI_LOWEST_HERTZ,
    FbankSettings,
    FeatureSettings,
    LinearSettings,
    LogMelSettings,
    MfccSettings,
)
from aalbert.shards.format.mel_filters import mel_edges
from aalbert.shards.format.wave_settings import WaveSettings

if TYPE_CHECKING:
    from aalbert.models.standalone.features_aalbert import WaveFeatures

INT16_SCALE = 32_768.0
PRE_EMPHASIS = 0.97
# Kaldi's floor under mel energies before the logarithm: the spacing of float32 at 1.
KALDI_FLOOR = float(np.finfo(np.float32).eps)
Array = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class SparseFilters:
    """Filters by the only bins that they weigh; mel filters are 98 % zeros.

    `spans (filters, 2)` say the first bin of each and how many follow on it, `weights` are
    those of all filters one after another.
    """

    spans: NDArray[np.int32]
    weights: NDArray[np.float32]


NO_FILTERS = SparseFilters(spans=np.empty((0, 2), np.int32), weights=np.empty(0, np.float32))


def hann_window(samples: int) -> NDArray[np.float32]:
    """Return the periodic Hann window, `(1 - cos(2 pi n / samples)) / 2`."""
    return ((1 - np.cos(2 * np.pi * np.arange(samples) / samples)) / 2).astype(np.float32)


def povey_window(samples: int) -> NDArray[np.float32]:
    """Return Kaldi's default window, the symmetric Hann window to the power of 0.85.

    Its first value is 0, so what pre-emphasis makes of a frame's first sample never counts.
    """
    hann = (1 - np.cos(2 * np.pi * np.arange(samples) / (samples - 1))) / 2
    return np.power(hann, 0.85).astype(np.float32)


def htk_filters(sample_rate: int, fft_size: int, mels: int) -> NDArray[np.float32]:
    """Return HTK's mel filters from 0 Hz to half the rate, `(fft_size // 2 + 1, mels)`.

    The triangles have height 1 and straight sides over Hz; this is
    `torchaudio.functional.melscale_fbanks` with `norm=None` and `mel_scale="htk"`.
    """
    edges = np.array(mel_edges(0.0, sample_rate / 2, mels))
    hertz = np.arange(fft_size // 2 + 1) * sample_rate / fft_size
    return triangles(hertz, edges)


def kaldi_filters(sample_rate: int, fft_size: int, mels: int) -> NDArray[np.float32]:
    """Return Kaldi's mel filters from 20 Hz to half the rate, `(fft_size // 2, mels)`.

    The triangles have height 1 and straight sides over mel; the bin at half the rate, of
    weight 0, is left out as in Kaldi.
    """
    edges = np.array(mel_edges(KALDI_LOWEST_HERTZ, sample_rate / 2, mels))
    hertz = np.arange(fft_size // 2) * sample_rate / fft_size
    return triangles(np.log1p(hertz / 700), np.log1p(edges / 700))


def triangles(positions: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the weight of every position in every triangle over three successive edges."""
    left, top, right = edges[:-2], edges[1:-1], edges[2:]
    rising = (positions[:, None] - left) / (top - left)
    falling = (right - positions[:, None]) / (right - top)
    weights: NDArray[np.float64] = np.maximum(0, np.minimum(rising, falling))
    return weights.astype(np.float32)


def cosine_transform(mels: int, cepstra: int, lifter: float) -> NDArray[np.float32]:
    """Return Kaldi's liftered DCT-II, `(mels, cepstra)`.

    `sqrt(2 / mels) cos(pi k (m + 1/2) / mels)`, with `sqrt(1 / mels)` for `k = 0`, times
    `1 + lifter / 2 sin(pi k / lifter)` (no lifter: 0).
    """
    orders = np.arange(cepstra)
    angles = np.pi / mels * (np.arange(mels)[:, None] + 0.5) * orders
    transform: NDArray[np.float64] = np.sqrt(2 / mels) * np.cos(angles)
    transform[:, 0] = np.sqrt(1 / mels)
    if lifter:
        transform *= 1 + lifter / 2 * np.sin(np.pi * orders / lifter)
    return transform.astype(np.float32)


def roots_of_unity(size: int) -> NDArray[np.float32]:
    """Return real and imaginary part of `exp(-2 pi i k / size)`, `(size, 2)`."""
    angles = -2 * np.pi * np.arange(size) / size
    return np.stack((np.cos(angles), np.sin(angles)), axis=1).astype(np.float32)


def sparse(filters: NDArray[np.float32]) -> SparseFilters:
    """Return filters `(bins, filters)` without the zeros before and after each."""
    used = [np.flatnonzero(each) for each in filters.T]
    first_and_last = [(int(bins[0]), int(bins[-1])) for bins in used]
    return SparseFilters(
        spans=np.array([(low, high + 1 - low) for low, high in first_and_last], np.int32),
        weights=np.concatenate(
            [filters[low : high + 1, each] for each, (low, high) in enumerate(first_and_last)]
        ),
    )


@dataclass(frozen=True, kw_only=True)
class Framing:
    """Frame `i` begins at sample `first + i * shift`, reflected at the ends of the wave.

    With `pre_emphasis`, a frame's mean is removed and each sample reduced by so much of the
    one before, as in Kaldi: `y[n] = x[n] - 0.97 x[n - 1]`.
    """

    window: NDArray[np.float32]
    first: int
    shift: int
    pre_emphasis: float


def centred_framing(settings: LogMelSettings | LinearSettings) -> Framing:
    """Return frames centred on multiples of the shift, with the Hann window.

    Where the FFT is longer than the window, `torch.stft` puts the window into its middle.
    That turns phases only, so here the window comes first and its zeros after it; frame `i`
    begins where torch's window does, `fft_size // 2 - (fft_size - window) // 2` samples
    before `i * shift`.
    """
    window = hann_window(settings.window_samples)
    edge = settings.fft_size // 2 - (settings.fft_size - len(window)) // 2
    return Framing(window=window, first=-edge, shift=settings.shift_samples, pre_emphasis=0.0)


def kaldi_framing(settings: FbankSettings | MfccSettings) -> Framing:
    """Return Kaldi's frames: mean removed, pre-emphasis, Povey window, no dither."""
    scale = INT16_SCALE if settings.amplitude == "int16" else 1.0
    return Framing(
        window=povey_window(settings.window_samples) * np.float32(scale),
        first=0,
        shift=settings.shift_samples,
        pre_emphasis=PRE_EMPHASIS,
    )


@dataclass(frozen=True, kw_only=True)
class Tables:
    """What the kernel multiplies with: the constants of one settings object."""

    framing: Framing
    roots: Array
    mel: SparseFilters = NO_FILTERS
    floor: float = 0.0
    offset: float = 0.0
    cosine: SparseFilters = NO_FILTERS


def logmel_tables(settings: LogMelSettings) -> Tables:
    """Return the tables up to the logarithm of HTK's mel filters."""
    rate, size = settings.sample_rate, settings.fft_size
    return Tables(
        framing=centred_framing(settings),
        roots=roots_of_unity(size),
        mel=sparse(htk_filters(rate, size, settings.mels)),
        offset=settings.log_offset,
    )


def linear_tables(settings: LinearSettings) -> Tables:
    """Return the tables up to the logarithm of the power."""
    return Tables(
        framing=centred_framing(settings),
        roots=roots_of_unity(settings.fft_size),
        offset=settings.log_offset,
    )


def fbank_tables(settings: FbankSettings | MfccSettings) -> Tables:
    """Return the tables up to the logarithm of Kaldi's mel filters."""
    size = settings.fft_size
    return Tables(
        framing=kaldi_framing(settings),
        roots=roots_of_unity(size),
        mel=sparse(kaldi_filters(settings.sample_rate, size, settings.mels)),
        floor=KALDI_FLOOR,
    )


def mfcc_tables(settings: MfccSettings) -> Tables:
    """Return those of the filter bank and the cosine transform that follows."""
    transform = cosine_transform(settings.mels, settings.cepstra, settings.lifter)
    return replace(fbank_tables(settings), cosine=sparse(transform))


# Takes a wave `(samples,)` and settings of its kind, and returns features `(frames, dims)`.
Extractor = Callable[[Array, Any], Array]


def spectral(make_tables: Callable[[Any], Tables]) -> Extractor:
    """Return what computes a kind by the kernel, from the tables of its settings."""
    # Nothing changes tables once they are made, so threads may share them.
    kept_tables = lru_cache(maxsize=8)(make_tables)

    def compute(wave: Array, settings: FeatureSettings) -> Array:
        tables = kept_tables(settings)
        features = np.empty((settings.count_frames(len(wave)), settings.dims), np.float32)
        kernel.native.spectra(
            wave=wave,
            window=tables.framing.window,
            roots=tables.roots,
            mel_spans=tables.mel.spans,
            mel_weights=tables.mel.weights,
            cosine_spans=tables.cosine.spans,
            cosine_weights=tables.cosine.weights,
            out=features,
            first=tables.framing.first,
            shift=tables.framing.shift,
            pre_emphasis=tables.framing.pre_emphasis,
            floor=tables.floor,
            offset=tables.offset,
        )
        return features

    return compute


def compute_by_torch(wave: Array, settings: FeatureSettings) -> Array:
    """Return the features of a wave where the kernel is not built, and warn of it once."""
    import torch

    warnings.warn(
        "aalbert is not built: PyTorch computes the features, many times slower, with other "
        f"last digits; {kernel.BUILD} builds it",
        AalbertWarning,
        stacklevel=2,
    )
    features: Array = torch_features(settings)(
        torch.from_numpy(wave)[None], torch.tensor([len(wave)])
    )[0].numpy()
    return features


@lru_cache(maxsize=8)
def torch_features(settings: FeatureSettings) -> "WaveFeatures":
    """Return what computes features in PyTorch, of waves that have been conditioned."""
    from aalbert.models.standalone.features_aalbert import WaveFeatures

    return WaveFeatures(asdict(replace(settings, wave=WaveSettings())))


TABLES: dict[str, Callable[[Any], Tables]] = {
    "logmel": logmel_tables,
    "fbank": fbank_tables,
    "mfcc": mfcc_tables,
    "linear": linear_tables,
}
EXTRACTORS: dict[str, Extractor] = {
    kind: spectral(make_tables) if kernel.is_built() else compute_by_torch
    for kind, make_tables in TABLES.items()
}


def extract(wave: Array, settings: FeatureSettings) -> Array:
    """Return the features `(frames, dims)` of a wave `(samples,)` in [-1, 1).

    The wave must have at least one analysis window of samples.
    """
    features = EXTRACTORS[settings.kind](wave, settings)
    # What reads the features trusts the settings about when their frames lie.
    assert features.shape == (settings.count_frames(len(wave)), settings.dims)
    return features


def check_long_enough(wave: Array, features: Sequence[FeatureSettings]) -> None:
    """Raise `UnusableAudioError` for a wave that is shorter than one analysis window."""
    needed = max(settings.window_samples for settings in features)
    if len(wave) < needed:
        sample_rate = features[0].sample_rate
        raise UnusableAudioError(
            f"too short: {1000 * len(wave) / sample_rate:.1f} ms, one analysis window "
            f"is {1000 * needed / sample_rate:.1f} ms"
        )
