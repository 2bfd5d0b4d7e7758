"""Audio files to float32 waves: decoded with libsndfile, checked, mixed down, resampled."""

import io
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile
import torch
import torchaudio
from numpy.typing import NDArray

from aalbert.pipeline.containers import announced_bytes

# Full scale in 16-bit samples is 32767/32768; a run of this many such samples is clipping.
CLIPPED_LEVEL = 0.999
CLIPPED_SHARE = 1e-3
SILENT_LEVEL = 1e-4
# An MP3's header counts the encoder's delay, which decoders drop: up to two frames of 1152.
MP3_SLACK_SAMPLES = 2 * 1152


class UnusableAudioError(Exception):
    """This file cannot be used; the text is the reason, without the file's name."""


@dataclass(frozen=True)
class Audio:
    """A wave `(samples,)` in float32 at the asked sample rate, and what it was made from.

    `flags` notes what was done to it or is odd about it: `resampled`, `downmixed`,
    `silent`, `constant`, `clipped`.
    """

    wave: NDArray[np.float32]
    source_sample_rate: int
    source_channels: int
    flags: tuple[str, ...]


def read_audio(path: Path | bytes, sample_rate: int, *, strict: bool = False) -> Audio:
    """Decode a file, or the bytes of one, to one channel at `sample_rate` Hz.

    With `strict`, audio of another rate or with several channels is refused instead
    of converted. Raises `UnusableAudioError` for a file that is empty, broken, cut
    off, or holds samples that are not finite.
    """
    try:
        check_complete(path)
        samples, source_rate = decode(path)
    except OSError as error:
        raise UnusableAudioError(f"cannot be read: {error.strerror}") from error
    channels = samples.shape[1]
    if strict and (source_rate != sample_rate or channels != 1):
        raise UnusableAudioError(
            f"{source_rate} Hz with {channels} channels, not {sample_rate} Hz mono (strict audio)"
        )
    wave = samples[:, 0] if channels == 1 else samples.mean(axis=1, dtype=np.float32)
    flags = describe(wave)
    if channels != 1:
        flags += ("downmixed",)
    if source_rate != sample_rate:
        wave = resample(wave, source_rate, sample_rate)
        flags += ("resampled",)
    return Audio(np.ascontiguousarray(wave), source_rate, channels, flags)


def decode(path: Path | bytes) -> tuple[NDArray[np.float32], int]:
    """Return the samples `(samples, channels)` of a file and its sample rate in Hz."""
    try:
        with soundfile.SoundFile(io.BytesIO(path) if isinstance(path, bytes) else path) as file:
            announced = file.frames
            slack = MP3_SLACK_SAMPLES if file.format == "MP3" else 0
            samples = file.read(dtype="float32", always_2d=True)
            source_rate = int(file.samplerate)
    except soundfile.LibsndfileError as error:
        raise UnusableAudioError(f"cannot be decoded: {str(error).split(': ')[-1]}") from error
    if len(samples) == 0:
        raise UnusableAudioError("holds no samples")
    if abs(announced - len(samples)) > slack:
        raise UnusableAudioError(f"cut off: {len(samples)} of {announced} samples decode")
    if not np.isfinite(samples).all():
        raise UnusableAudioError("holds samples that are not finite (NaN or infinity)")
    if not 1_000 <= source_rate <= 768_000:
        raise UnusableAudioError(f"claims a sample rate of {source_rate} Hz")
    return samples, source_rate


def check_complete(path: Path | bytes) -> None:
    """Refuse an empty file, and one that is shorter than its header says."""
    size = len(path) if isinstance(path, bytes) else path.stat().st_size
    if size == 0:
        raise UnusableAudioError("is empty (0 bytes)")
    announced = announced_bytes(path)
    if announced is not None and size < announced:
        raise UnusableAudioError(f"cut off: {size} bytes, the header says {announced}")


def describe(wave: NDArray[np.float32]) -> tuple[str, ...]:
    """Return the flags for what is odd about a wave."""
    lowest, highest = float(wave.min()), float(wave.max())
    flags: tuple[str, ...] = ()
    if max(-lowest, highest) < SILENT_LEVEL:
        flags += ("silent",)
    elif highest - lowest < SILENT_LEVEL:
        flags += ("constant",)
    if np.count_nonzero(np.abs(wave) >= CLIPPED_LEVEL) > CLIPPED_SHARE * len(wave):
        flags += ("clipped",)
    return flags


def resample(wave: NDArray[np.float32], source_rate: int, sample_rate: int) -> NDArray[np.float32]:
    """Change the sample rate by windowed-sinc interpolation (torchaudio's default, Hann)."""
    resampler = make_resampler(source_rate, sample_rate)
    resampled: NDArray[np.float32] = resampler(torch.from_numpy(wave)).numpy()
    return resampled


@lru_cache(maxsize=8)
def make_resampler(source_rate: int, sample_rate: int) -> torchaudio.transforms.Resample:
    """Return a resampler with its filter, which costs more to make than to apply."""
    return torchaudio.transforms.Resample(source_rate, sample_rate)
