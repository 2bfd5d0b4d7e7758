"""MPEG audio: frames, and the header that LAME's successors put into the first one.

Without it the number of samples is not written anywhere: decoders estimate it, and those frames
are counted here.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from aalbert.pipeline.audio.containers.chunks import is_end
from aalbert.pipeline.audio.containers.contents import Contents
from aalbert.pipeline.audio.containers.tags import skip_tags
from aalbert.pipeline.audio.recording import Recording, UnusableAudioError

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
# Encoders that store how many samples they added before and after the recording.
ENCODERS = (b"LAME", b"Lavf", b"Lavc")


@dataclass(frozen=True)
class Frame:
    """A frame: its first byte, the one after it, its samples per channel, its sample rate."""

    start: int
    stop: int
    samples: int
    sample_rate: int


def read_frame(content: bytes, start: int) -> Frame | None:
    """Read the header of a frame; None where there is none, or one without a size."""
    if start + 4 > len(content):
        return None
    header = int.from_bytes(content[start : start + 4], "big")
    version, layer = VERSIONS.get(header >> 19 & 3), LAYERS.get(header >> 17 & 3)
    rate_index, bitrate_index = header >> 10 & 3, header >> 12 & 15
    if header >> 21 != 0x7FF or version is None or layer is None or rate_index == 3:
        return None
    if bitrate_index in (0, 15):
        return None
    rate = SAMPLE_RATES[rate_index] // version
    bitrate = 1000 * BITRATES[min(version, 2), layer][bitrate_index]
    padding = header >> 9 & 1
    if layer == 1:
        return Frame(start, start + (12 * bitrate // rate + padding) * 4, 384, rate)
    samples = 576 if layer == 3 and version > 1 else 1152
    return Frame(start, start + samples // 8 * bitrate // rate + padding, samples, rate)


@dataclass(frozen=True)
class Stream:
    """Frames one after another: their bytes, and those of the ones that hold audio.

    `samples` are those of the latter; with `counted`, a header says how many of them to keep.
    """

    start: int
    audio_start: int
    stop: int
    counted: bool
    samples: int


def examine_mp3(recording: Recording) -> Contents:
    """Count the samples by the frames; `UnusableAudioError` when it is cut off or damaged.

    Files set end to end are several streams. Of a stream whose header counts its samples nothing
    is said: the decoder takes that number, and checks it.
    """
    streams = list(walk_streams(recording))
    if len(streams) > 1:
        return Contents(streams=tuple((stream.start, stream.stop) for stream in streams))
    if not streams or streams[0].counted:
        return Contents()
    return Contents(samples=streams[0].samples, audio_start=streams[0].audio_start)


def walk_streams(recording: Recording) -> Iterator[Stream]:
    """Yield the streams of a file, each as long as frames follow one another."""
    content = recording.content
    position = skip_tags(recording, 0)
    stream = None
    while (frame := read_frame(content, position)) is not None:
        if frame.stop > len(content):
            missing = frame.stop - len(content)
            raise UnusableAudioError(f"cut off: its last frame of MP3 lacks {missing} bytes")
        header = stream_header(content[frame.start : frame.stop])
        if stream is not None and (header is not None or stream.stop != position):
            yield stream
            stream = None
        if stream is None:
            audio_start = frame.start if header is None else frame.stop
            stream = Stream(frame.start, audio_start, frame.stop, header == COUNTED, 0)
        samples = frame.samples if header is None else 0
        stream = replace(stream, stop=frame.stop, samples=stream.samples + samples)
        position = frame.stop
        if read_frame(content, position) is None:
            position = skip_tags(recording, position)
    if stream is None:
        return
    if not is_end(recording, position):
        raise UnusableAudioError(
            f"damaged: byte {position} of {len(content)} begins no frame of MP3"
        )
    yield stream


COUNTED, UNCOUNTED = "counted", "uncounted"


def stream_header(frame: bytes) -> str | None:
    """Return whether a frame is the header of a stream, and whether that counts its samples.

    It then holds `Xing` or `Info`, the number of frames (with all optional fields, 120 bytes in
    all), and an encoder's name before the samples to drop at both ends.
    """
    position = max(frame.find(b"Xing", 0, 64), frame.find(b"Info", 0, 64))
    if position < 0:
        return None
    all_fields = frame[position + 7 : position + 8] == b"\x0f"
    known = frame[position + 120 :].startswith(ENCODERS)
    return COUNTED if all_fields and known else UNCOUNTED
