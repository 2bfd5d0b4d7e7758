"""Audio files to float32 waves: decoded, checked, mixed down, resampled.

libsndfile decodes every format. The two common formats have faster decoders with the same
samples: miniaudio for 16-bit FLAC, and a plain copy for 16-bit WAV. A file that these cannot read
to the last announced sample is passed to libsndfile, which reports the reason.
"""

import errno
import io
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import miniaudio
import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from aalbert import kernel
from aalbert.errors import InputError
from aalbert.pipeline.audio.containers.contents import Contents, Mp3Frames
from aalbert.pipeline.audio.containers.examine import examine
from aalbert.pipeline.audio.containers.flac import (
    require_frames,
    stream_info,
    with_samples,
)
from aalbert.pipeline.audio.mp3 import decode_mp3
from aalbert.pipeline.audio.recording import Recording, UnusableAudioError, open_recording
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
# No codec stores more in speech: Opus has 64 at 6 kbit/s.
SAMPLES_PER_BYTE = 64
# Tables round their times: an end this little past that of the recording means its end.
SPAN_SLACK_S = 0.05
# The largest file whose size RIFF can write.
LARGEST_RIFF = 2**32 - 1

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
        with open_recording(source) as recording:
            samples, source_rate = decode(recording, span)
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


def decode(recording: Recording, span: Span) -> tuple[Samples, int]:
    """Return the samples `(samples, channels)` of a span and the sample rate in Hz."""
    if recording.size == 0:
        raise UnusableAudioError("is empty (0 bytes)")
    contents = examine(recording)
    decoded = decode_fast(recording, contents) if span == WHOLE else None
    samples, source_rate = decoded or decode_any(recording, contents, span)
    if len(samples) == 0:
        raise UnusableAudioError("holds no samples")
    if not SLOWEST_SAMPLE_RATE <= source_rate <= FASTEST_SAMPLE_RATE:
        raise UnusableAudioError(f"claims an impossible sample rate: {source_rate} Hz")
    return samples, source_rate


def decode_fast(recording: Recording, contents: Contents) -> tuple[Samples, int] | None:
    """Decode a whole 16-bit FLAC or WAV, or return None for libsndfile to do it.

    The samples are bit-identical to those of libsndfile.
    """
    info, samples = stream_info(recording.header), contents.samples
    if info is not None and info.bits == 16 and samples is not None:
        numbers = flac_numbers(recording.content, samples * info.channels)
        return None if numbers is None else (to_float(numbers, info.channels), info.sample_rate)
    pcm = contents.pcm
    if pcm is not None and pcm.little_endian_integers and pcm.bits == 16:
        count = pcm.samples * pcm.channels
        numbers = np.frombuffer(recording.content, "<i2", count, pcm.start)
        return to_float(numbers, pcm.channels), pcm.sample_rate
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


def to_float(numbers: NDArray[np.int16], channels: int) -> Samples:
    """Return 16-bit samples, channels interleaved, as `(samples, channels)` in [-1, 1)."""
    samples = np.empty(len(numbers), np.float32)
    kernel.native.scale_samples(numbers, samples)
    return samples.reshape(-1, channels)


def decode_any(recording: Recording, contents: Contents, span: Span) -> tuple[Samples, int]:
    """Decode a span with libsndfile and check that it is complete and finite."""
    if contents.streams:
        return decode_chain(recording, contents.streams, span)
    if contents.mp3 is not None and (span != WHOLE or not contents.mp3.header):
        samples, source_rate = decode_frames(recording, contents.mp3, span)
    else:
        samples, source_rate = decode_by_libsndfile(recording, contents, span)
    if stream_info(recording.header) is not None:
        require_no_silence_for_frames(recording, samples, source_rate, span)
    if not np.isfinite(samples).all():
        raise UnusableAudioError("holds samples that are not finite (NaN or infinity)")
    if len(samples) and (largest := float(np.abs(samples).max())) > LARGEST_SAMPLE:
        raise UnusableAudioError(f"holds samples beyond any scale: up to {largest:.3g}")
    return samples, source_rate


def decode_frames(recording: Recording, frames: Mp3Frames, span: Span) -> tuple[Samples, int]:
    """Decode a span of an MP3: of one whose samples no header counts, or a part."""
    start, stop = span_samples(span, frames.samples, frames.sample_rate)
    return decode_mp3(recording, frames, start, stop), frames.sample_rate


def decode_by_libsndfile(
    recording: Recording, contents: Contents, span: Span
) -> tuple[Samples, int]:
    """Decode a span, and check that there are as many samples as the container counts."""
    try:
        with soundfile.SoundFile(source_for(recording, contents)) as file:
            source_rate, announced = int(file.samplerate), file.frames
            check_plausible(recording, announced)
            # libsndfile takes what follows the samples of some containers for more of them.
            counted = announced if contents.samples is None else contents.samples
            # Of an MP3 it announces another number when it does not understand the header.
            if announced < counted or (contents.mp3 is not None and announced != counted):
                raise UnusableAudioError(
                    f"is read in part: {announced} of {counted} samples decode"
                )
            start, stop = span_samples(span, counted, source_rate)
            try:
                samples = read_part(file, start, stop)
            except MemoryError as error:
                # What may be a file of hours is not to blame for a machine short of memory.
                if counted <= recording.size * SAMPLES_PER_BYTE:
                    raise
                raise UnusableAudioError(
                    f"announces more samples than this machine can hold: {counted} in "
                    f"{recording.size} bytes"
                ) from error
    except soundfile.LibsndfileError as error:
        raise UnusableAudioError(f"cannot be decoded: {str(error).split(': ')[-1]}") from error
    if stop - start != len(samples):
        raise UnusableAudioError(f"cut off: {len(samples)} of {stop - start} samples decode")
    return samples, source_rate


def read_part(file: soundfile.SoundFile, start: int, stop: int) -> Samples:
    """Return the samples from `start` to `stop`, of a codec that cannot seek too."""
    if start and file.seekable():
        try:
            file.seek(start)
        except soundfile.LibsndfileError:
            file.seek(0)
        else:
            samples: Samples = file.read(stop - start, dtype="float32", always_2d=True)
            return samples
    whole: Samples = file.read(stop, dtype="float32", always_2d=True)
    return whole[start:]


def decode_chain(
    recording: Recording, streams: Sequence[tuple[int, int]], span: Span
) -> tuple[Samples, int]:
    """Decode streams that follow one another in a file, and cut out a span."""
    parts, formats = [], set()
    for start, stop in streams:
        with open_recording(recording.content[start:stop]) as part:
            samples, rate = decode_any(part, examine(part), WHOLE)
        parts.append(samples)
        formats.add((rate, samples.shape[1]))
    if len(formats) > 1:
        raise UnusableAudioError(
            "holds streams of different sample rates or channels one after another"
        )
    joined = np.concatenate(parts)
    first, last = span_samples(span, len(joined), rate)
    return joined[first:last], rate


def source_for(recording: Recording, contents: Contents) -> Path | BinaryIO:
    """Return what libsndfile opens: the recording, or a copy in which its sizes are written.

    Recorders and pipes leave them out of WAV and FLAC.
    """
    info = stream_info(recording.header)
    if info is not None and info.samples == 0 and contents.samples is not None:
        return io.BytesIO(with_samples(recording.content, contents.samples))
    pcm, order = contents.pcm, "<I" if recording.header[:4] == b"RIFF" else ">I"
    if pcm is None or recording.header[:4] not in (b"RIFF", b"RIFX"):
        return recording.for_decoder()
    size_field = slice(pcm.start - 4, pcm.start)
    written = struct.pack(order, pcm.stop - pcm.start)
    if recording.read(size_field.start, 4) == written or recording.size > LARGEST_RIFF:
        return recording.for_decoder()
    copy = bytearray(recording.content)
    copy[4:8], copy[size_field] = struct.pack(order, len(copy) - 8), written
    return io.BytesIO(copy)


def require_no_silence_for_frames(
    recording: Recording, samples: Samples, sample_rate: int, span: Span
) -> None:
    """Refuse a FLAC that lacks whole frames, for which libsndfile gives silence."""
    if span != WHOLE:
        start = round(span[0] * sample_rate)
        require_frames(recording, range(start, start + len(samples)))
        return
    try:
        found = miniaudio.flac_read_s32(recording.content).num_frames
    except miniaudio.DecodeError as error:
        raise UnusableAudioError(f"cannot be decoded: {error}") from error
    if found != len(samples):
        raise UnusableAudioError(f"is read in part: {found} of {len(samples)} samples decode")


def check_plausible(recording: Recording, samples: int) -> None:
    """Refuse a header that announces more samples than any format can store in the file."""
    if samples > recording.size * FLAC_SAMPLES_PER_BYTE:
        raise UnusableAudioError(
            f"cannot hold the announced samples: {samples} in {recording.size} bytes"
        )


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
