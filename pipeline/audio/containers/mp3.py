"""MPEG audio: frames, and the header that LAME's successors put into the first one.

Without it the number of samples is not written anywhere: decoders estimate it, and those frames
are counted here.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aalbert.pipeline.audio.containers.chunks import is_end
from aalbert.pipeline.audio.containers.contents import Contents, Mp3Frames
from aalbert.pipeline.audio.containers.tags import skip_tags
from aalbert.pipeline.audio.recording import Recording, UnusableAudioError, open_recording

# Kilobits a second by the index in a header, for MPEG 1 and for MPEG 2 and 2.5, by layer.
BITRATES = {
    (1, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
# Hertz of MPEG 1; MPEG 2 has half of it, MPEG 2.5 a quarter.
SAMPLE_RATES = (44_100, 48_000, 32_000)
# By the code of two bits in a header; the missing ones are reserved.
VERSIONS = {0b00: 4, 0b10: 2, 0b11: 1}
LAYERS = {0b01: 3, 0b10: 2, 0b11: 1}
MONO = 0b11
# The header of a stream has the name `Xing` or `Info` near the beginning of its frame.
MARK_BYTES = 64
ALL_FIELDS = 0b1111
# From the name on: the number of frames and of bytes, the encoder's name, and the samples that it
# added.
FRAMES_OFFSET, SIZE_OFFSET, ENCODER_OFFSET, ADDED_OFFSET = 8, 12, 120, 141
# Encoders that store how many samples they added before and after the recording.
ENCODERS = (b"LAME", b"Lavf", b"Lavc")
# Samples by which every decoder is late.
DECODER_DELAY = 529


@dataclass(frozen=True)
class Form:
    """What all frames of a stream share; `samples` are those of a frame, per channel."""

    version: int
    layer: int
    sample_rate: int
    channels: int
    samples: int


# Of the few forms there are, one object each, which is compared faster.
form_of = cache(Form)


@lru_cache(maxsize=4096)
def read_header(header: bytes) -> tuple[int, Form] | None:
    """Return the bytes and the form of a frame by its first four; None for no frame."""
    number = int.from_bytes(header, "big")
    version, layer = VERSIONS.get(number >> 19 & 3), LAYERS.get(number >> 17 & 3)
    rate_index, bitrate_index = number >> 10 & 3, number >> 12 & 15
    if number >> 21 != 0x7FF or version is None or layer is None or rate_index == 3:
        return None
    # The size of a frame of free bitrate is not written.
    if bitrate_index in (0, 15):
        return None
    rate = SAMPLE_RATES[rate_index] // version
    bitrate = 1000 * BITRATES[min(version, 2), layer][bitrate_index]
    padding = number >> 9 & 1
    channels = 1 if number >> 6 & 3 == MONO else 2
    if layer == 1:
        return (12 * bitrate // rate + padding) * 4, form_of(version, layer, rate, channels, 384)
    samples = 576 if layer == 3 and version > 1 else 1152
    size = samples // 8 * bitrate // rate + padding
    return size, form_of(version, layer, rate, channels, samples)


@dataclass(frozen=True)
class StreamHeader:
    """What the first frame says of the others: how many, and the samples added at both ends.

    Each is None where it does not say so. `frame` is its bytes.
    """

    frame: bytes
    frames: int | None
    added: tuple[int, int] | None = None


@dataclass(frozen=True)
class Stream:
    """Frames of one form one after another, by their borders, and the header in the first."""

    borders: NDArray[np.int64]
    form: Form
    header: StreamHeader | None


def examine_mp3(recording: Recording) -> Contents:
    """Count the samples by the frames; `UnusableAudioError` when it is cut off or damaged.

    Files set end to end are several streams. What follows a tag may be a file of another kind.
    """
    streams = streams_of(recording)
    if len(streams) == 1:
        frames = audio_frames(streams[0])
        return Contents(samples=frames.samples, mp3=frames)
    if streams:
        places = tuple((int(each.borders[0]), int(each.borders[-1])) for each in streams)
        return Contents(streams=places)
    start = skip_tags(recording, 0)
    return Contents(streams=((start, recording.size),) if start else ())


def audio_frames(stream: Stream) -> Mp3Frames:
    """Return where the samples of a stream are; `UnusableAudioError` if its header disagrees."""
    form, header = stream.form, stream.header
    borders = stream.borders if header is None else stream.borders[1:]
    count = len(borders) - 1
    # Some encoders count their header as well.
    known = header is not None and header.added is not None
    if header is not None and header.frames not in (None, count, count + (not known)):
        raise UnusableAudioError(
            f"cut off or damaged: {count} frames of MP3, the header says {header.frames}"
        )
    if header is None or header.added is None:
        frame, start, behind = b"", 0, 0
    else:
        delay, padding = header.added
        frame, start, behind = header.frame, delay + DECODER_DELAY, max(0, padding - DECODER_DELAY)
    return Mp3Frames(
        borders=borders,
        frame_samples=form.samples,
        sample_rate=form.sample_rate,
        channels=form.channels,
        mpeg_1=form.version == 1,
        layer=form.layer,
        header=frame,
        start=start,
        samples=max(0, count * form.samples - start - behind),
    )


def streams_of(recording: Recording) -> tuple[Stream, ...]:
    """Return the streams of a recording, those of the last file without walking it again.

    The parts of a long recording are read one after another.
    """
    if isinstance(recording.source, bytes):
        return tuple(walk_streams(recording))
    modified_ns = os.stat(recording.source).st_mtime_ns
    return streams_of_file(recording.source, modified_ns, recording.size)


@lru_cache(maxsize=1)
def streams_of_file(path: Path, modified_ns: int, size: int) -> tuple[Stream, ...]:
    """Return the streams of a file that has not changed since."""
    with open_recording(path) as recording:
        return tuple(walk_streams(recording))


def walk_streams(recording: Recording) -> Iterator[Stream]:
    """Yield the streams of a file, each as long as frames of one form follow one another."""
    content = recording.content
    borders: list[int] = []
    header, form = None, None
    for start, stop, frame_form in walk_frames(recording):
        found = stream_header(content, start, stop)
        if form is not None and (found or start != borders[-1] or frame_form is not form):
            yield Stream(np.array(borders), form, header)
            form = None
        if form is None:
            borders, header, form = [start], found, frame_form
        borders.append(stop)
    if form is not None:
        yield Stream(np.array(borders), form, header)


def walk_frames(recording: Recording) -> Iterator[tuple[int, int, Form]]:
    """Yield start, stop and form of every frame; there may be tags before and behind each."""
    content, size = recording.content, recording.size
    position = skip_tags(recording, 0)
    if read_header(content[position : position + 4]) is None:
        return
    while (frame := read_header(content[position : position + 4])) is not None:
        length, form = frame
        stop = position + length
        if stop > size:
            raise UnusableAudioError(f"cut off: its last frame of MP3 lacks {stop - size} bytes")
        yield position, stop, form
        position = stop
        if read_header(content[position : position + 4]) is None:
            position = skip_tags(recording, position)
    if not is_end(recording, position):
        raise UnusableAudioError(f"damaged: byte {position} of {size} begins no frame of MP3")


def find_mark(content: bytes, start: int, stop: int) -> int:
    """Return where the name is by which a frame is a header; -1 where there is none."""
    stop = min(stop, start + MARK_BYTES)
    return max(content.find(b"Xing", start, stop), content.find(b"Info", start, stop))


def stream_header(content: bytes, start: int, stop: int) -> StreamHeader | None:
    """Return what a frame says as the header of a stream; None when it holds audio.

    It then holds `Xing` or `Info`, the fields that there are and the number of frames; with all
    optional fields an encoder's name and the samples that it added at both ends.
    """
    mark = find_mark(content, start, stop)
    if mark < 0:
        return None
    fields, frames, encoder, added = (
        content[mark + offset : stop][:size]
        for offset, size in ((4, 4), (FRAMES_OFFSET, 4), (ENCODER_OFFSET, 4), (ADDED_OFFSET, 3))
    )
    flags, frame = int.from_bytes(fields, "big"), content[start:stop]
    count = int.from_bytes(frames, "big") if flags & 1 else None
    if flags & ALL_FIELDS != ALL_FIELDS or encoder not in ENCODERS or len(added) < 3:
        return StreamHeader(frame, count)
    both = int.from_bytes(added, "big")
    return StreamHeader(frame, count, (both >> 12, both & 0xFFF))
