"""How frames are cut from a wave: as `torch.stft` centres them, and as Kaldi takes them."""

from dataclasses import dataclass

import numpy as np
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
PRE_EMPHASIS = 0.97


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
    centred: bool

    def count(self, samples: int) -> int:
        """Return how many frames a wave has; Kaldi takes whole ones only."""
        whole = samples if self.centred else samples - len(self.window)
        return 1 + whole // self.shift


def centred_framing(settings: LogMelSettings | LinearSettings) -> Framing:
    """Return frames centred on multiples of the shift, with the Hann window.

    Where the FFT is longer than the window, `torch.stft` puts the window into its middle.
    That turns phases only, so here the window comes first and its zeros after it; frame `i`
    begins where torch's window does, `fft_size // 2 - (fft_size - window) // 2` samples
    before `i * shift`.
    """
    window = hann_window(window_samples(settings))
    edge = settings.fft_size // 2 - (settings.fft_size - len(window)) // 2
    return Framing(
        window=window, first=-edge, shift=shift_samples(settings), pre_emphasis=0.0, centred=True
    )


def kaldi_framing(settings: FbankSettings | MfccSettings) -> Framing:
    """Return Kaldi's frames: mean removed, pre-emphasis, Povey window, no dither."""
    scale = INT16_SCALE if settings.amplitude == "int16" else 1.0
    return Framing(
        window=povey_window(window_samples(settings)) * np.float32(scale),
        first=0,
        shift=shift_samples(settings),
        pre_emphasis=PRE_EMPHASIS,
        centred=False,
    )
