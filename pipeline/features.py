"""Waves to features in NumPy and SciPy. The settings are those the shards record.

Every kind begins with the power of a short-time spectrum: frames of the wave, times a window,
the squared magnitude of their FFT. Frames are worked off in chunks that stay in the
processor's cache, in buffers that are made once per settings.

| kind | framing | after the power spectrum `p` | the same in torch and torchaudio |
|---|---|---|---|
| `logmel` | `CentredFraming` | `ln(htk_filters . p + log_offset)` | `stft`, `melscale_fbanks` |
| `linear` | `CentredFraming` | `ln(p + log_offset)` | `stft` |
| `fbank` | `KaldiFraming` | `ln(max(kaldi_filters . p, 2**-23))` | `compliance.kaldi.fbank` |
| `mfcc` | `KaldiFraming` | `cosine_transform . fbank` | `compliance.kaldi.mfcc` |

They agree within float32 rounding.
"""

import threading
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from aalbert.pipeline.filters import (
    Band,
    cosine_transform,
    cut_bands,
    htk_filters,
    kaldi_filters,
)
from aalbert.pipeline.framing import CentredFraming, KaldiFraming
from aalbert.shards.settings import (
    FbankSettings,
    FeatureSettings,
    LinearSettings,
    LogMelSettings,
    MfccSettings,
    kaldi_fft_size,
    window_samples,
)

CHUNK_FRAMES = 256
BAND_FILTERS = 16
# Kaldi's floor under mel energies before the logarithm: the spacing of float32 at 1.
KALDI_FLOOR = np.finfo(np.float32).eps

Array = NDArray[np.float32]
# Turns power spectra `(frames, bins)` into features, written to `(frames, dims)`.
Ending = Callable[[Array, Array], None]


def extract(wave: Array, settings: FeatureSettings) -> Array:
    """Return the features `(frames, dims)` of a wave `(samples,)` in [-1, 1).

    The wave must have at least `minimum_samples(settings)` samples. The numbers do not
    depend on how many threads NumPy's BLAS may use.
    """
    return make_extractor(settings, threading.get_ident()).extract(wave)


def minimum_samples(settings: FeatureSettings) -> int:
    """Return the samples of one analysis window, below which there is no frame."""
    return window_samples(settings)


@lru_cache(maxsize=16)
def make_extractor(settings: FeatureSettings, thread: int) -> "Extractor":
    """Return the extractor of one thread: two threads must not share its buffers."""
    return Extractor(settings)


class Extractor:
    """The constants and buffers of one settings object."""

    def __init__(self, settings: FeatureSettings) -> None:
        self.dims = settings.dims
        self.framing: CentredFraming | KaldiFraming
        if isinstance(settings, LogMelSettings | LinearSettings):
            self.framing, fft_size = CentredFraming(settings), settings.fft_size
        else:
            self.framing, fft_size = KaldiFraming(settings), kaldi_fft_size(settings)
        self.ending = make_ending(settings)
        # The columns past the window stay 0.
        self._windowed = np.zeros((CHUNK_FRAMES, fft_size), np.float32)
        self._power = np.empty((CHUNK_FRAMES, fft_size // 2 + 1), np.float32)

    def extract(self, wave: Array) -> Array:
        """Return the features `(frames, dims)` of a wave."""
        frames = self.framing.prepare(wave)
        features = np.empty((frames.count, self.dims), np.float32)
        for start in range(0, frames.count, CHUNK_FRAMES):
            chunk = features[start : start + CHUNK_FRAMES]
            windowed = self._windowed[: len(chunk)]
            frames.write(start, windowed[:, : len(self.framing.window)])
            self.ending(self.power(windowed), chunk)
        return features

    def power(self, windowed: Array) -> Array:
        """Return the squared magnitudes of the FFT of every row, in this object's buffer."""
        # SciPy's FFT keeps float32, unlike NumPy's before 2.0, and takes several rows at once.
        parts = scipy.fft.rfft(windowed).view(np.float32)
        np.square(parts, out=parts)
        power = self._power[: len(windowed)]
        np.add(parts[:, 0::2], parts[:, 1::2], out=power)
        return power


def make_ending(settings: FeatureSettings) -> Ending:
    """Return what a feature does with power spectra."""
    match settings:
        case LinearSettings():
            offset = np.float32(settings.log_offset)
            return lambda power, out: log_with_offset(power, offset, out)
        case LogMelSettings():
            return logmel_ending(settings)
        case FbankSettings():
            return fbank_ending(settings)
        case MfccSettings():
            return mfcc_ending(settings)


def log_with_offset(power: Array, offset: np.float32, out: Array) -> None:
    """Write `ln(power + offset)`."""
    np.add(power, offset, out=out)
    np.log(out, out=out)


def logmel_ending(settings: LogMelSettings) -> Ending:
    """Return the step from power to the logarithm of HTK's mel filters."""
    filters = htk_filters(settings.sample_rate, settings.fft_size, settings.mels)
    bands = cut_bands(filters, BAND_FILTERS, CHUNK_FRAMES)
    offset = np.float32(settings.log_offset)

    def ending(power: Array, out: Array) -> None:
        project(power, bands, out)
        log_with_offset(out, offset, out)

    return ending


def fbank_ending(settings: FbankSettings | MfccSettings) -> Ending:
    """Return the step from power to the logarithm of Kaldi's mel filters."""
    filters = kaldi_filters(settings.sample_rate, kaldi_fft_size(settings), settings.mels)
    bands = cut_bands(filters, BAND_FILTERS, CHUNK_FRAMES)

    def ending(power: Array, out: Array) -> None:
        project(power, bands, out)
        np.maximum(out, KALDI_FLOOR, out=out)
        np.log(out, out=out)

    return ending


def mfcc_ending(settings: MfccSettings) -> Ending:
    """Return the step from power to Kaldi's cepstra."""
    fbank = fbank_ending(settings)
    transform = cosine_transform(settings.mels, settings.cepstra, settings.lifter)
    bands = cut_bands(transform, BAND_FILTERS, CHUNK_FRAMES)
    energies = np.empty((CHUNK_FRAMES, settings.mels), np.float32)

    def ending(power: Array, out: Array) -> None:
        rows = energies[: len(power)]
        fbank(power, rows)
        project(rows, bands, out)

    return ending


def project(rows: Array, bands: tuple[Band, ...], out: Array) -> None:
    """Write the matrix product of `rows` with filters that were cut into bands."""
    for band in bands:
        np.matmul(rows[:, band.bins], band.weights, out=out[:, band.filters])
