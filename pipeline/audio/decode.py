"""Audio files to float32 waves: decoded, checked, mixed down, resampled.

libsndfile decodes every format. The two common formats have faster decoders with the same
samples: miniaudio for 16-bit FLAC, and a plain copy for 16-bit WAV. A file that these cannot read
to the last announced sample is passed to libsndfile, which reports the reason.
"""

import errno
import io
import os
from dataclasses import dataclass
from pathlib import Path

import miniaudio
import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from aalbert.errors import InputError
from aalbert.kernel import native
from aalbert.pipeline.audio.headers import (
    HEADER_BYTES,
    announced_bytes,
    flac_stream_info,
    mp3_counts_samples,
    pcm_layout,
)
from aalbert.shards.format.feature_settings import FASTEST_SAMPLE_RATE, SLOWEST_SAMPLE_RATE

# Full scale in 16-bit samples is 32767/32768; a run of this many such samples is clipping.
CLIPPED_LEVEL = 0.999
CLIPPED_SHARE = 1e-3
SILENT_LEVEL = 1e-4
# Some files have floating-point samples on the scale of integers, of at most 32 bits.
LARGEST_SAMPLE = 2.0**31
# A frame of FLAC is at least 11 bytes long and has at most 65535 samples of 8 channels. A
# header that announces more would make the decoder ask for too much memory.
FLAC_SAMPLES_PER_BYTE = 8 * 65_535 // 11
# Tables round their times: an end this little past that of the recording means its end.
SPAN_SLACK_S = 0.05
# Without a header that counts them, the samples of an MP3 are estimated to within two frames.
MP3_SLACK_SAMPLES = 2 * 1152

# Errors of the system at that moment, or of a disk that is gone, not of the file.
TRANSIENT_ERRNOS = {
    *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOENT, errno.ENODEV, errno.ESTALE),
    *(errno.ENOTCONN, errno.ECONNRESET, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH),
}

# Start and end in seconds; None is the end of the recording.
Span = tuple[float, float | None]
WHOLE: Span = (0.0, None)
Samples = NDArray[np.float32]

# libsoxr reads these variables at every call: with `SOXR_USE_SIMD=0`, for one, its output differs.
for setting in [name for name in os.environ if name.startswith("SOXR_")]:
    del os.environ[setting]


class UnusableAudioError(Exception):
    """An audio file cannot be used; the text is the reason, without the file's name."""


@dataclass(frozen=True)
class Audio:
    """A wave `(samples,)` in float32 at the requested sample rate, and the format of its source.

    `flags` notes conversions and oddities: `resampled`, `downmixed`,
    `silent`, `constant`, `clipped`.
    """

    wave: NDArray[np.float32]
    source_sample_rate: int
    source_channels: int
    flags: tuple[str, ...]


def read_audio(
    source: Path | bytes, sample_rate: int, *, strict: bool = False, span: Span = WHOLE
) -> Audio:
    """Decode a file, or the bytes of one, to one channel at `sample_rate` Hz.

    `span`, in seconds, is the part to decode. With `strict`, audio of another rate or
    with several channels is refused instead of converted. Raises `UnusableAudioError` for
    audio that is empty, broken, cut off, ends before the span does, or holds samples that
    are not finite, and `InputError` when the file is gone or the system cannot read it now.
    """
    try:
        samples, source_rate = decode(source, span)
    except OSError as error:
        if error.errno in TRANSIENT_ERRNOS:
            raise InputError(
                f"{source if isinstance(source, Path) else 'a recording'} cannot be read now "
                f"({error.strerror}): run the same command again when it can, finished work is kept"
            ) from error
        raise UnusableAudioError(f"cannot be read: {error.strerror}") from error
    channels = samples.shape[1]
    if strict and (source_rate != sample_rate or channels != 1):
        raise UnusableAudioError(
            f"not {sample_rate} Hz mono (strict audio): {source_rate} Hz, channels {channels}"
        )
    wave = samples[:, 0] if channels == 1 else samples.mean(axis=1, dtype=np.float32)
    flags = find_flags(wave)
    if channels != 1:
        flags += ("downmixed",)
    if source_rate != sample_rate:
        wave = resample(wave, source_rate, sample_rate)
        flags += ("resampled",)
    return Audio(np.ascontiguousarray(wave), source_rate, channels, flags)


def decode(source: Path | bytes, span: Span) -> tuple[Samples, int]:
    """Return the samples `(samples, channels)` of a span and the sample rate in Hz."""
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    if size == 0:
        raise UnusableAudioError("is empty (0 bytes)")
    header = read_header(source)
    announced = announced_bytes(header)
    if announced is not None and size < announced:
        raise UnusableAudioError(f"cut off: {size} bytes, the header says {announced}")
    decoded = decode_fast(source, header) if span == WHOLE else None
    samples, source_rate = decoded or decode_any(source, span)
    if len(samples) == 0:
        raise UnusableAudioError("holds no samples")
    if not SLOWEST_SAMPLE_RATE <= source_rate <= FASTEST_SAMPLE_RATE:
        raise UnusableAudioError(f"claims an impossible sample rate: {source_rate} Hz")
    return samples, source_rate


def read_header(source: Path | bytes) -> bytes:
    """Return the first bytes of a file."""
    if isinstance(source, bytes):
        return source[:HEADER_BYTES]
    with source.open("rb") as stream:
        return stream.read(HEADER_BYTES)


def decode_fast(source: Path | bytes, header: bytes) -> tuple[Samples, int] | None:
    """Decode a whole 16-bit FLAC or WAV, or return None for libsndfile to do it.

    The samples are bit-identical to those of libsndfile.
    """
    if (info := flac_stream_info(header)) and info.bits == 16 and info.samples:
        numbers = flac_numbers(read_all(source), info.samples * info.channels)
        return None if numbers is None else (to_float(numbers, info.channels), info.sample_rate)
    if (layout := pcm_layout(header)) and layout.bits == 16 and layout.samples:
        content = read_all(source)
        if layout.stop <= len(content):
            count = layout.samples * layout.channels
            numbers = np.frombuffer(content, "<i2", count, layout.start)
            return to_float(numbers, layout.channels), layout.sample_rate
    return None


def flac_numbers(content: bytes, count: int) -> NDArray[np.int16] | None:
    """Decode a 16-bit FLAC, channels interleaved; None unless there are exactly `count` numbers."""
    if count > len(content) * FLAC_SAMPLES_PER_BYTE:
        return None
    try:
        decoded = miniaudio.flac_read_s16(content)
    except miniaudio.DecodeError:
        return None
    # miniaudio silently drops a frame whose checksum is wrong.
    numbers = np.frombuffer(decoded.samples, np.int16)
    return numbers if len(numbers) == count else None


def read_all(source: Path | bytes) -> bytes:
    """Return the bytes of a file."""
    return source if isinstance(source, bytes) else source.read_bytes()


def to_float(numbers: NDArray[np.int16], channels: int) -> Samples:
    """Return 16-bit samples, channels interleaved, as `(samples, channels)` in [-1, 1)."""
    samples = np.empty(len(numbers), np.float32)
    native.scale_samples(numbers, samples)
    return samples.reshape(-1, channels)


def decode_any(source: Path | bytes, span: Span) -> tuple[Samples, int]:
    """Decode a span with libsndfile and check that it is complete and finite."""
    stream = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        with soundfile.SoundFile(stream) as file:
            source_rate = int(file.samplerate)
            check_plausible(source, file.frames)
            start, stop = span_samples(span, file.frames, source_rate)
            if start:
                file.seek(start)
            estimated = file.format == "MP3" and not mp3_counts_samples(read_all(source))
            samples = file.read(stop - start, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise UnusableAudioError(f"cannot be decoded: {str(error).split(': ')[-1]}") from error
    if abs(stop - start - len(samples)) > (MP3_SLACK_SAMPLES if estimated else 0):
        raise UnusableAudioError(f"cut off: {len(samples)} of {stop - start} samples decode")
    if not np.isfinite(samples).all():
        raise UnusableAudioError("holds samples that are not finite (NaN or infinity)")
    if len(samples) and (largest := float(np.abs(samples).max())) > LARGEST_SAMPLE:
        raise UnusableAudioError(f"holds samples beyond any scale: up to {largest:.3g}")
    return samples, source_rate


def check_plausible(source: Path | bytes, samples: int) -> None:
    """Refuse a header that announces more samples than any format can store in the file."""
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    if samples > size * FLAC_SAMPLES_PER_BYTE:
        raise UnusableAudioError(f"cannot hold the announced samples: {samples} in {size} bytes")


def span_samples(span: Span, samples: int, sample_rate: int) -> tuple[int, int]:
    """Return the first sample of a span in seconds, and the sample after its last."""
    start = round(span[0] * sample_rate)
    stop = samples if span[1] is None else round(span[1] * sample_rate)
    if samples < stop <= samples + SPAN_SLACK_S * sample_rate:
        stop = samples
    if not 0 <= start < stop <= samples and span != WHOLE:
        end = "the end" if span[1] is None else f"{span[1]:.3f} s"
        raise UnusableAudioError(
            f"does not contain the requested part: {span[0]:.3f} s to {end} of "
            f"{samples / max(1, sample_rate):.3f} s"
        )
    return start, stop


def resample(wave: NDArray[np.float32], source_rate: int, sample_rate: int) -> NDArray[np.float32]:
    """Return a wave `(samples,)` at another sample rate (Hz)."""
    resampled: NDArray[np.float32] = soxr.resample(wave, source_rate, sample_rate, quality="HQ")
    return resampled


def find_flags(wave: NDArray[np.float32]) -> tuple[str, ...]:
    """Return the flags of a wave `(samples,)`: `silent`, `constant`, `clipped`, or none."""
    lowest, highest = float(wave.min()), float(wave.max())
    flags: tuple[str, ...] = ()
    if max(-lowest, highest) < SILENT_LEVEL:
        flags += ("silent",)
    elif highest - lowest < SILENT_LEVEL:
        flags += ("constant",)
    if max(-lowest, highest) < CLIPPED_LEVEL:
        return flags
    if np.count_nonzero(np.abs(wave) >= CLIPPED_LEVEL) > CLIPPED_SHARE * len(wave):
        flags += ("clipped",)
    return flags
