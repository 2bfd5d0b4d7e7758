"""What is done to a wave before its features: silence cut, gain, loudness. Pure functions."""

import numpy as np
from numpy.typing import NDArray

from aalbert.shards.format.feature_settings import whole_samples
from aalbert.shards.format.wave_settings import SilenceSettings, WaveSettings

Wave = NDArray[np.float32]
# s3prl adds it to the RMS, so that a wave of zeros stays one.
RMS_OFFSET = 1e-10


def condition(wave: Wave, sample_rate: int, settings: WaveSettings) -> Wave:
    """Return a wave `(samples,)` as the settings ask; their docstrings define every step.

    Values beyond [-1, 1] are kept. A wave without any sound is not cut.
    """
    if settings.silence is not None:
        wave = cut_silence(wave, sample_rate, settings.silence)
    if settings.gain_db:
        wave = wave * np.float32(10 ** (settings.gain_db / 20))
    if settings.loudness_db is not None:
        wave = wave * np.float32(10 ** (settings.loudness_db / 20) / (rms(wave) + RMS_OFFSET))
    return wave


def rms(wave: Wave) -> float:
    """Return the root of the mean square."""
    return float(np.sqrt(np.square(wave).mean()))


def cut_silence(wave: Wave, sample_rate: int, settings: SilenceSettings) -> Wave:
    """Return the wave without the silence that `SilenceSettings` defines."""
    window = max(1, whole_samples(sample_rate, settings.window_ms))
    silent = silent_windows(wave, window, settings.threshold_db)
    edge = whole_samples(sample_rate, settings.edge_ms)
    inner = whole_samples(sample_rate, settings.inner_ms)
    pieces, kept_to = [], 0
    for first, last in zip(*runs(silent), strict=True):
        start, stop = first * window, min(last * window, len(wave))
        # How much of this silence stays after the sound before it, and before the next sound.
        head, tail = inner // 2, inner - inner // 2
        if start == 0:
            head, tail = 0, edge
        elif stop == len(wave):
            head, tail = edge, 0
        if stop - start > head + tail:
            pieces.append(wave[kept_to : start + head])
            kept_to = stop - tail
    return np.concatenate((*pieces, wave[kept_to:])) if pieces else wave


def silent_windows(wave: Wave, window: int, threshold_db: float) -> NDArray[np.bool_]:
    """Say of every window whether it is silent; in a wave of zeros none is."""
    starts = np.arange(0, len(wave), window)
    lengths = np.diff(starts, append=len(wave))
    power = np.add.reduceat(np.square(wave), starts) / lengths
    loudest = power.max()
    silent: NDArray[np.bool_] = (power <= loudest * 10 ** (-threshold_db / 10)) & (loudest > 0)
    return silent


def runs(flags: NDArray[np.bool_]) -> tuple[list[int], list[int]]:
    """Return the first index of every run of true flags, and the one after its last."""
    steps = np.diff(flags.astype(np.int8), prepend=0, append=0)
    return np.flatnonzero(steps == 1).tolist(), np.flatnonzero(steps == -1).tolist()
