"""Waves to windowed frames: as `torch.stft` centres them, and as Kaldi emphasises them."""

from typing import Protocol

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from aalbert.pipeline.filters import hann_window, povey_window
from aalbert.shards.settings import (
    FbankSettings,
    LinearSettings,
    LogMelSettings,
    MfccSettings,
    shift_samples,
    window_samples,
)

INT16_SCALE = 32_768.0
PRE_EMPHASIS = np.float32(0.97)

Wave = NDArray[np.float32]
Frames = NDArray[np.float32]


class PreparedWave(Protocol):
    """A wave of which the windowed frames can be asked for, some at a time."""

    count: int

    def write(self, start: int, out: Frames) -> None:
        """Write the windowed frames from number `start` on to `out`, `(frames, window)`."""


class CentredFraming:
    """Frames centred on multiples of the shift, the wave reflected at its ends; Hann window.

    `samples` give `1 + samples // shift` frames. Where the FFT is longer than the window,
    `torch.stft` puts the window into its middle. That turns phases only, so here the
    window comes first and its zeros after it; frame `i` begins where torch's window does,
    `fft_size // 2 - (fft_size - window) // 2` samples before `i * shift`.
    """

    def __init__(self, settings: LogMelSettings | LinearSettings) -> None:
        self.window = hann_window(window_samples(settings))
        self.shift = shift_samples(settings)
        self.edge = settings.fft_size // 2 - (settings.fft_size - len(self.window)) // 2

    def prepare(self, wave: Wave) -> PreparedWave:
        """Return the frames of a wave that is longer than half a window."""
        before = wave[self.edge : 0 : -1]
        after = wave[-2 : -2 - self.edge : -1]
        padded = np.concatenate((before, wave, after))
        frames = all_frames(padded, 1 + len(wave) // self.shift, len(self.window), self.shift)
        return CentredFrames(frames, self.window)


class CentredFrames:
    """The frames of one wave, for `CentredFraming`."""

    def __init__(self, frames: Frames, window: Wave) -> None:
        self.count = len(frames)
        self._frames = frames
        self._window = window

    def write(self, start: int, out: Frames) -> None:
        """Write the windowed frames from number `start` on to `out`."""
        np.multiply(self._frames[start : start + len(out)], self._window, out=out)


class KaldiFraming:
    """Kaldi's frames: whole ones only, mean removed, pre-emphasis, Povey window, no dither.

    `samples` give `1 + (samples - window) // shift` frames. Kaldi takes the mean of each
    frame away and then emphasises, `y[n] = x[n] - 0.97 x[n - 1]`. Both are linear, so the
    wave is emphasised once and 0.03 of each frame's mean is taken away afterwards. The mean
    of the whole wave goes first, which changes no frame but keeps float32 exact under a
    constant offset.
    """

    def __init__(self, settings: FbankSettings | MfccSettings) -> None:
        scale = INT16_SCALE if settings.amplitude == "int16" else 1.0
        self.window = povey_window(window_samples(settings)) * np.float32(scale)
        self.shift = shift_samples(settings)

    def prepare(self, wave: Wave) -> PreparedWave:
        """Return the frames of a wave of at least one window."""
        length = len(self.window)
        centred = wave - wave.mean()
        emphasised = np.empty_like(centred)
        emphasised[0] = 0  # has no sample before it; the window is 0 there
        np.multiply(centred[:-1], -PRE_EMPHASIS, out=emphasised[1:])
        emphasised[1:] += centred[1:]
        count = 1 + (len(wave) - length) // self.shift
        return KaldiFrames(
            all_frames(centred, count, length, self.shift),
            all_frames(emphasised, count, length, self.shift),
            self.window,
        )


class KaldiFrames:
    """The frames of one wave, for `KaldiFraming`."""

    def __init__(self, centred: Frames, emphasised: Frames, window: Wave) -> None:
        self.count = len(centred)
        self._centred = centred
        self._emphasised = emphasised
        self._window = window

    def write(self, start: int, out: Frames) -> None:
        """Write the windowed frames from number `start` on to `out`."""
        rows = slice(start, start + len(out))
        # einsum adds a row several times as fast as sum.
        offsets = np.einsum("ij->i", self._centred[rows])
        offsets *= (1 - PRE_EMPHASIS) / np.float32(len(self._window))
        np.subtract(self._emphasised[rows], offsets[:, None], out=out)
        out *= self._window


def all_frames(wave: Wave, count: int, length: int, shift: int) -> Frames:
    """Return a view of overlapping frames, `(count, length)`; nothing is copied."""
    assert (count - 1) * shift + length <= len(wave)
    step = wave.strides[0]
    return as_strided(wave, (count, length), (shift * step, step), writeable=False)
