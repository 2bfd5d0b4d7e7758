"""Frames of MP3 to samples: all of them, or those of a part and what its decoding depends on.

A part has the very samples that it has in the decoding of the whole.
"""

import io
from itertools import pairwise

import miniaudio
import numpy as np
import soundfile
from numpy.typing import NDArray

from aalbert.pipeline.audio.containers.contents import Mp3Frames
from aalbert.pipeline.audio.containers.mp3 import (
    ADDED_OFFSET,
    FRAMES_OFFSET,
    SIZE_OFFSET,
    find_mark,
)
from aalbert.pipeline.audio.recording import Recording, UnusableAudioError

FRAME_HEADER_BYTES, CHECKSUM_BYTES = 4, 2
# A bit of a header: no checksum follows it.
UNPROTECTED = 1
# A frame is added to the end of the one before, and the filter behind remembers that one's.
OVERLAP_FRAMES = 2
# mpg123 adds the products of that filter up in an order that is the same again after 16 turns,
# thus after this many frames of 36 or 18 turns.
PHASE_FRAMES = 8


def decode_mp3(
    recording: Recording, frames: Mp3Frames, start: int, stop: int
) -> NDArray[np.float32]:
    """Return the samples `(samples, channels)` from `start` to `stop` of a recording.

    libsndfile decodes frames that a header counts; of others it estimates the number and stops
    there, so that miniaudio decodes them. Raises `UnusableAudioError` for frames that do not
    decode.
    """
    start, stop = start + frames.start, stop + frames.start
    first, last = start // frames.frame_samples, -(-stop // frames.frame_samples)
    # The last samples of a recording come when its frames are over.
    last = min(last, len(frames.borders) - 1)
    whole = max(0, first - OVERLAP_FRAMES)
    begin = reservoir_begin(frames, whole)
    place, end = int(frames.borders[begin]), int(frames.borders[last])
    content = with_silence(recording.read(place, end - place), frames, begin, whole)
    if frames.header:
        decoded = by_libsndfile(counted(frames.header, content, last - begin))
    else:
        decoded = by_miniaudio(content)
    # Decoders drop their own delay at the beginning: count from the end.
    offset = len(decoded) - last * frames.frame_samples
    if start + offset < 0 or decoded.shape[1] != frames.channels:
        raise UnusableAudioError(
            f"is read in part: {len(decoded)} of {stop - start} samples decode"
        )
    return decoded[start + offset : stop + offset]


def reservoir_begin(frames: Mp3Frames, whole: int) -> int:
    """Return the frame from which on there may be data of the frame `whole`."""
    sizes: NDArray[np.int64] = np.diff(frames.borders[: whole + 1])
    held = np.cumsum(sizes[::-1] - FRAME_HEADER_BYTES - CHECKSUM_BYTES - side_bytes(frames))
    begin = whole - 1 - int(np.searchsorted(held, reservoir_bytes(frames)))
    return max(0, begin) // PHASE_FRAMES * PHASE_FRAMES


def with_silence(content: bytes, frames: Mp3Frames, begin: int, whole: int) -> bytes:
    """Return the frames from `begin` on, of which those before `whole` say that they hold nothing.

    Decoders keep their data for later frames. So do frames whose data would begin before the
    recording, which was then cut out of a longer one: decoders leave them out, or complain.
    """
    if frames.layer != 3:
        return content
    silent, side, limit = bytearray(content), side_bytes(frames), reservoir_bytes(frames)
    held = 0 if begin else max(0, len(frames.header) - FRAME_HEADER_BYTES - side)
    ends = np.searchsorted(frames.borders, frames.borders[begin] + len(content))
    borders = (frames.borders[begin : ends + 1] - frames.borders[begin]).tolist()
    for frame, (start, stop) in enumerate(pairwise(borders), begin):
        if frame >= whole and held >= limit:
            break
        protected = not content[start + 1] & UNPROTECTED
        place = start + FRAME_HEADER_BYTES + CHECKSUM_BYTES * protected
        field = slice(place, place + 2) if frames.mpeg_1 else slice(place, place + 1)
        shift = 7 if frames.mpeg_1 else 0
        if frame < whole or int.from_bytes(content[field], "big") >> shift > held:
            silent[place : place + side] = bytes(side)
            silent[field] = (min(held, limit) << shift).to_bytes(field.stop - place, "big")
        held += stop - place - side
    return bytes(silent)


def reservoir_bytes(frames: Mp3Frames) -> int:
    """Return how many bytes before a frame its data begin at most: the field has 9 or 8 bits."""
    return 511 if frames.mpeg_1 else 255


def side_bytes(frames: Mp3Frames) -> int:
    """Return the bytes with which a frame of layer 3 describes its data."""
    if frames.mpeg_1:
        return 17 if frames.channels == 1 else 32
    return 9 if frames.channels == 1 else 17


def counted(header: bytes, content: bytes, count: int) -> bytes:
    """Return `count` frames behind the frame that counts them, which lets none be dropped."""
    mark = find_mark(header, 0, len(header))
    changed = bytearray(header)
    size = len(header) + len(content)
    for offset, field in (
        (FRAMES_OFFSET, count.to_bytes(4, "big")),
        (SIZE_OFFSET, size.to_bytes(4, "big")),
        (ADDED_OFFSET, bytes(3)),
    ):
        place = mark + offset
        changed[place : place + len(field)] = field
    return bytes(changed) + content


def by_libsndfile(content: bytes) -> NDArray[np.float32]:
    """Decode an MP3 whose header counts its frames."""
    samples: NDArray[np.float32]
    try:
        samples, _ = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise UnusableAudioError(f"cannot be decoded: {str(error).split(': ')[-1]}") from error
    return samples


def by_miniaudio(content: bytes) -> NDArray[np.float32]:
    """Decode all frames of an MP3."""
    try:
        decoded = miniaudio.mp3_read_f32(content)
    except miniaudio.DecodeError as error:
        raise UnusableAudioError(f"cannot be decoded: {error}") from error
    return np.array(decoded.samples, np.float32).reshape(-1, decoded.nchannels)
