"""Waves to features, as torchaudio defines them. The settings are those the shards record."""

from functools import cache

import numpy as np
import torch
import torchaudio
from numpy.typing import NDArray
from torch import Tensor

from aalbert.shards.settings import FbankSettings, FeatureSettings, LogMelSettings

INT16_SCALE = 32_768.0


def extract(wave: NDArray[np.float32], settings: FeatureSettings) -> NDArray[np.float32]:
    """Return the features `(frames, dims)` of a wave `(samples,)` in [-1, 1).

    The wave must have at least `minimum_samples(settings)` samples.
    """
    samples = torch.from_numpy(wave)
    with torch.inference_mode():
        if isinstance(settings, LogMelSettings):
            features = logmel(samples, settings)
        elif isinstance(settings, FbankSettings):
            features = fbank(samples, settings)
        else:
            raise NotImplementedError(settings.kind)
    extracted: NDArray[np.float32] = features.contiguous().numpy()
    return extracted


def minimum_samples(settings: FeatureSettings) -> int:
    """Return the samples of one analysis window, below which there is no frame."""
    return round(settings.sample_rate * settings.window_length_ms / 1000)


def logmel(wave: Tensor, settings: LogMelSettings) -> Tensor:
    """Return `log(mel power + offset)`, `(frames, mels)`, with frames centred on the shifts."""
    spectrum = torch.stft(
        wave,
        n_fft=settings.fft_size,
        hop_length=round(settings.sample_rate * settings.frame_shift_ms / 1000),
        win_length=minimum_samples(settings),
        window=hann_window(minimum_samples(settings)),
        center=True,
        pad_mode="reflect",
        return_complex=True,
    )
    power = spectrum.real.square() + spectrum.imag.square()
    mel_power = mel_filters(settings) @ power
    return torch.log(mel_power + settings.log_offset).T


def fbank(wave: Tensor, settings: FbankSettings) -> Tensor:
    """Return Kaldi's log mel filter bank, `(frames, mels)`, without dither."""
    scale = INT16_SCALE if settings.amplitude == "int16" else 1.0
    features: Tensor = torchaudio.compliance.kaldi.fbank(
        wave.unsqueeze(0) * scale,
        sample_frequency=settings.sample_rate,
        frame_length=settings.window_length_ms,
        frame_shift=settings.frame_shift_ms,
        num_mel_bins=settings.mels,
        dither=0.0,
    )
    return features


@cache
def hann_window(samples: int) -> Tensor:
    """Return the periodic Hann window."""
    return torch.hann_window(samples)


@cache
def mel_filters(settings: LogMelSettings) -> Tensor:
    """Return HTK's triangular filters without area normalisation, `(mels, fft bins)`."""
    filters: Tensor = torchaudio.functional.melscale_fbanks(
        n_freqs=settings.fft_size // 2 + 1,
        f_min=0.0,
        f_max=settings.sample_rate / 2,
        n_mels=settings.mels,
        sample_rate=settings.sample_rate,
        norm=None,
        mel_scale="htk",
    )
    return filters.T.contiguous()
