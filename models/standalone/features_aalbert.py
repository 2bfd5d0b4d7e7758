# Copyright (c) 2026 The aalbert developers
# SPDX-License-Identifier: MIT

"""Waves to features in PyTorch, from the settings in the `config.json` of an AALBERT model.

All is computed in float64 by indexing and products of matrices alone, so that it runs wherever
these do, and exports to ONNX. The last digits of float32 differ from those of other
implementations.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

# Kinds whose frames have their middle at multiples of the shift, and kinds framed as in Kaldi.
CENTRED_KINDS, KALDI_KINDS = ("logmel", "linear"), ("fbank", "mfcc")
# Kaldi's: where its filters begin, its pre-emphasis, and its floor under the energy of a filter.
KALDI_LOWEST_HERTZ = 20.0
PRE_EMPHASIS = 0.97
KALDI_FLOOR = 2.0**-23
# The samples that Kaldi's features are of, in [-1, 1) or as many times larger.
AMPLITUDES = {"unit": 1.0, "int16": 32_768.0}
# s3prl adds it to the root of the mean square, so that a wave of zeros stays one.
RMS_OFFSET = 1e-10


@dataclass(frozen=True)
class Tables:
    """The constants of one settings object, in float64.

    `basis (window, 2 * bins)` is the window times the real and imaginary parts of a Fourier
    transform; `filters (bins, mels)` and `cosines (mels, cepstra)` follow it in some kinds.
    """

    basis: Tensor
    filters: Tensor | None
    cosines: Tensor | None


class WaveFeatures(nn.Module):
    """Computes the features `(batch, frames, dims)` of waves, in float32.

    | kind | frames | after the power spectrum `p` |
    |---|---|---|
    | `logmel` | centred, Hann window | `ln(htk_filters . p + log_offset)` |
    | `linear` | centred, Hann window | `ln(p + log_offset)` |
    | `fbank` | Kaldi's, Povey window | `ln(max(kaldi_filters . p, 2**-23))` |
    | `mfcc` | Kaldi's, Povey window | `cosine_transform . fbank` |
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        self.settings = settings

    @property
    def centred(self) -> bool:
        """Whether frame `i` has its middle at sample `i * shift`; else it begins there."""
        return self.settings["kind"] in CENTRED_KINDS

    @property
    def window_samples(self) -> int:
        """The length of the analysis window, the shortest wave that has features."""
        return self.samples_of("window_length_ms")

    @property
    def shift_samples(self) -> int:
        """The distance of two frames."""
        return self.samples_of("frame_shift_ms")

    def samples_of(self, name: str) -> int:
        """Return the whole samples of a time; a product that is only just below one counts."""
        return int(self.settings["sample_rate"] * self.settings[name] / 1000 + 1e-6)

    @property
    def fft_size(self) -> int:
        """The samples of the Fourier transform; Kaldi pads windows to a power of two."""
        given = self.settings.get("fft_size")
        return 1 << (self.window_samples - 1).bit_length() if given is None else int(given)

    @cached_property
    @torch.inference_mode(False)
    def tables(self) -> Tables:
        """The constants, on the CPU; made when they are first needed, for gradients too."""
        settings, kind = self.settings, self.settings["kind"]
        bins = self.fft_size // 2 + (1 if self.centred else 0)
        filters = None
        if kind != "linear":
            lowest = 0.0 if self.centred else KALDI_LOWEST_HERTZ
            filters = mel_filters(
                settings["sample_rate"], self.fft_size, bins, settings["mels"], lowest
            )
        cosines = None
        if kind == "mfcc":
            cosines = cosine_transform(settings["mels"], settings["cepstra"], settings["lifter"])
        basis = fourier_basis(self.window(), self.fft_size, bins)
        return Tables(basis=basis, filters=filters, cosines=cosines)

    def window(self) -> Tensor:
        """Return the analysis window: periodic Hann, or Kaldi's times the scale of the samples."""
        samples = self.window_samples
        period = samples if self.centred else samples - 1
        hann = (1 - torch.cos(2 * math.pi * numbers(samples) / period)) / 2
        if self.centred:
            return hann
        return hann**0.85 * AMPLITUDES[self.settings["amplitude"]]

    def count_frames(self, samples: Any) -> Any:
        """Return the frames of so many samples, a number or a tensor of numbers."""
        whole = samples if self.centred else samples - self.window_samples
        return 1 + whole // self.shift_samples

    def forward(self, waves: Tensor, lengths: Tensor) -> Tensor:
        """Return the features of waves `(batch, samples)`, of which the first `lengths` count.

        `lengths (batch,)` are at least `window_samples`. Frames beyond `count_frames(lengths)`
        are finite, and mean nothing. Raises `ValueError` for features that are not in this module.
        """
        if missing := missing_features(self.settings):
            raise ValueError(
                f"this model reads {missing}, which are not in this module: give it input_features "
                "that aalbert has computed"
            )
        frames = self.frame(self.condition(waves, lengths), lengths)
        tables = self.tables
        real, imaginary = (frames @ tables.basis.to(frames.device)).chunk(2, dim=-1)
        power = real.square() + imaginary.square()
        if tables.filters is not None:
            power = power @ tables.filters.to(power.device)
        if self.centred:
            return torch.log(power + self.settings["log_offset"]).float()
        features = torch.log(power.clamp(min=KALDI_FLOOR))
        if tables.cosines is not None:
            features = features @ tables.cosines.to(features.device)
        return features.float()

    def condition(self, waves: Tensor, lengths: Tensor) -> Tensor:
        """Return the waves in float64, with gain and loudness as set, and zeros as padding."""
        wave = self.settings["wave"]
        real = torch.arange(waves.shape[1], device=waves.device) < lengths.unsqueeze(1)
        # Replaced, not multiplied: padding may contain NaN.
        waves = torch.where(real, waves.double(), 0.0) * 10 ** (wave["gain_db"] / 20)
        if wave["loudness_db"] is None:
            return waves
        mean_square = waves.square().sum(dim=1, keepdim=True) / lengths.unsqueeze(1)
        # At 0 the root has no gradient; so little is nothing beside the offset.
        rms = mean_square.clamp(min=torch.finfo(torch.float64).tiny).sqrt()
        loud: Tensor = waves * (10 ** (wave["loudness_db"] / 20) / (rms + RMS_OFFSET))
        return loud

    def frame(self, waves: Tensor, lengths: Tensor) -> Tensor:
        """Return frames `(batch, frames, window)`, reflected at both ends of every wave.

        Where the FFT is longer than a centred window, `torch.stft` puts the window into its
        middle, which turns phases only; so frame `i` begins where torch's window does.
        """
        window = self.window_samples
        edge = self.fft_size // 2 - (self.fft_size - window) // 2 if self.centred else 0
        starts = torch.arange(self.count_frames(waves.shape[1]), device=waves.device)
        starts = starts * self.shift_samples - edge
        indexes = (starts.unsqueeze(1) + torch.arange(window, device=waves.device)).abs()
        last = (lengths - 1).unsqueeze(1)
        # Frames of padding lie beyond the reflection too.
        indexes = (last - (last - indexes.flatten()).abs()).clamp(min=0)
        frames = waves.gather(1, indexes).view(waves.shape[0], -1, window)
        if self.centred:
            return frames
        frames = frames - frames.mean(dim=-1, keepdim=True)
        before = torch.cat([frames[..., :1], frames[..., :-1]], dim=-1)
        return frames - PRE_EMPHASIS * before


def missing_features(settings: Mapping[str, Any]) -> str:
    """Return what of the settings of features is not in this module; empty if all is."""
    kind = settings["kind"]
    if kind not in CENTRED_KINDS + KALDI_KINDS:
        return f"features of the kind {kind}"
    if kind in KALDI_KINDS and settings["amplitude"] not in AMPLITUDES:
        return f"{kind}.amplitude {settings['amplitude']}"
    silence = settings["wave"]["silence"]
    return "" if silence is None else "waves whose silence was cut (features.wave.silence)"


def numbers(count: int) -> Tensor:
    """Return 0 to `count - 1` in float64, on the CPU under any default device."""
    return torch.arange(count, dtype=torch.float64, device="cpu")


def fourier_basis(window: Tensor, fft_size: int, bins: int) -> Tensor:
    """Return the window times cosines and sines of the first `bins`, `(window, 2 * bins)`."""
    angles = torch.outer(numbers(len(window)), numbers(bins)) % fft_size * (2 * math.pi / fft_size)
    return window.unsqueeze(1) * torch.cat([angles.cos(), angles.sin()], dim=1)


def mel_filters(
    sample_rate: int, fft_size: int, bins: int, mels: int, lowest_hertz: float
) -> Tensor:
    """Return triangular filters of height 1, equally spaced in mel, `(bins, mels)`.

    Their sides are straight over Hz from 0 Hz (HTK's), or over mel from 20 Hz (Kaldi's, which
    lack the bin at half the rate). `mel = ln(1 + hertz / 700)`, up to a factor.
    """
    hertz = numbers(bins) * sample_rate / fft_size
    low, high = (math.log1p(edge / 700) for edge in (lowest_hertz, sample_rate / 2))
    edges = low + numbers(mels + 2) * ((high - low) / (mels + 1))
    if lowest_hertz == 0:
        edges = 700 * torch.expm1(edges)
    else:
        hertz = torch.log1p(hertz / 700)
    left, top, right = edges[:-2], edges[1:-1], edges[2:]
    rising = (hertz.unsqueeze(1) - left) / (top - left)
    falling = (right - hertz.unsqueeze(1)) / (right - top)
    return torch.minimum(rising, falling).clamp(min=0)


def cosine_transform(mels: int, cepstra: int, lifter: float) -> Tensor:
    """Return Kaldi's liftered DCT-II, `(mels, cepstra)`.

    `sqrt(2 / mels) cos(pi k (m + 1/2) / mels)`, with `sqrt(1 / mels)` for `k = 0`, times
    `1 + lifter / 2 sin(pi k / lifter)` (no lifter: 0).
    """
    orders = numbers(cepstra)
    transform = math.sqrt(2 / mels) * torch.cos(
        torch.outer(numbers(mels) + 0.5, orders) * math.pi / mels
    )
    transform[:, 0] = math.sqrt(1 / mels)
    if lifter:
        transform *= 1 + lifter / 2 * torch.sin(math.pi * orders / lifter)
    return transform
