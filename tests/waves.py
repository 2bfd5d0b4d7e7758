"""Waves at 16 kHz with bands in which there is nearly nothing."""

import numpy as np
import soxr

_SECONDS = 2
_SAMPLES_8K = np.random.default_rng(4).standard_normal(8_000 * _SECONDS) * 0.1
_TIME = np.arange(16_000 * _SECONDS) / 16_000
EMPTY_BANDS = {
    "resampled from 8 kHz": soxr.resample(_SAMPLES_8K, 8_000, 16_000).astype(np.float32),
    "a tone": (0.3 * np.sin(2 * np.pi * 440 * _TIME)).astype(np.float32),
    "a constant": np.full(len(_TIME), 0.25, np.float32),
}
