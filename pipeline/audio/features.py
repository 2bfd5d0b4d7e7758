"""Waves to features: the tables of the settings that the shards record, for the kernel in C.

Every kind begins with the power of a short-time spectrum: frames of the wave, times a window,
the squared magnitude of their FFT.

| kind | framing | after the power spectrum `p` | the same in torch and torchaudio |
|---|---|---|---|
| `logmel` | `centred_framing` | `ln(htk_filters . p + log_offset)` | `stft`, `melscale_fbanks` |
| `linear` | `centred_framing` | `ln(p + log_offset)` | `stft` |
| `fbank` | `kaldi_framing` | `ln(max(kaldi_filters . p, 2**-23))` | `compliance.kaldi.fbank` |
| `mfcc` | `kaldi_framing` | `cosine_transform . fbank` | `compliance.kaldi.mfcc` |

They agree within float32 rounding. The numbers are the same bits on every processor.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from aalbert.kernel import native
from aalbert.pipeline.audio.decode import UnusableAudioError
from aalbert.pipeline.filters import (
    NO_FILTERS,
    SparseFilters,
    cosine_transform,
    htk_filters,
    kaldi_filters,
    roots_of_unity,
    sparse,
)
from aalbert.pipeline.framing import Framing, centred_framing, kaldi_framing
from aalbert.shards.settings import (
    FbankSettings,
    FeatureSettings,
    LinearSettings,
    LogMelSettings,
    MfccSettings,
    kaldi_fft_size,
    window_samples,
)

# Kaldi's floor under mel energies before the logarithm: the spacing of float32 at 1.
KALDI_FLOOR = float(np.finfo(np.float32).eps)

Array = NDArray[np.float32]


def extract(wave: Array, settings: FeatureSettings) -> Array:
    """Return the features `(frames, dims)` of a wave `(samples,)` in [-1, 1).

    The wave must have at least `minimum_samples(settings)` samples.
    """
    tables = make_tables(settings)
    features = np.empty((tables.framing.count(len(wave)), settings.dims), np.float32)
    native.spectra(
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


def minimum_samples(settings: FeatureSettings) -> int:
    """Return the samples of one analysis window, below which there is no frame."""
    return window_samples(settings)


def check_long_enough(wave: Array, features: Sequence[FeatureSettings]) -> None:
    """Raise `UnusableAudioError` for a wave that is shorter than one analysis window."""
    needed = max(minimum_samples(settings) for settings in features)
    if len(wave) < needed:
        sample_rate = features[0].sample_rate
        raise UnusableAudioError(
            f"too short: {1000 * len(wave) / sample_rate:.1f} ms, one analysis window "
            f"is {1000 * needed / sample_rate:.1f} ms"
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


@lru_cache(maxsize=16)
def make_tables(settings: FeatureSettings) -> Tables:
    """Return the tables of a feature; nothing changes them, so threads may share them."""
    match settings:
        case LinearSettings():
            return Tables(
                framing=centred_framing(settings),
                roots=roots_of_unity(settings.fft_size),
                offset=settings.log_offset,
            )
        case LogMelSettings(sample_rate=rate, fft_size=size, mels=mels):
            return Tables(
                framing=centred_framing(settings),
                roots=roots_of_unity(size),
                mel=sparse(htk_filters(rate, size, mels)),
                offset=settings.log_offset,
            )
        case FbankSettings():
            return kaldi_tables(settings, NO_FILTERS)
        case MfccSettings(mels=mels, cepstra=cepstra, lifter=lifter):
            return kaldi_tables(settings, sparse(cosine_transform(mels, cepstra, lifter)))


def kaldi_tables(settings: FbankSettings | MfccSettings, cosine: SparseFilters) -> Tables:
    """Return the tables up to the logarithm of Kaldi's mel filters, and what follows it."""
    size = kaldi_fft_size(settings)
    return Tables(
        framing=kaldi_framing(settings),
        roots=roots_of_unity(size),
        mel=sparse(kaldi_filters(settings.sample_rate, size, settings.mels)),
        floor=KALDI_FLOOR,
        cosine=cosine,
    )
