"""WAV: RIFF, big-endian RIFX, and RF64, whose sizes have 64 bits.

The size of `data` says where the samples end; that of the whole file is wrong in many files that
are in order: 8 too large, or counting a byte of padding that was not written.
"""

import struct

from aalbert.pipeline.audio.containers.block_codecs import count_block_samples
from aalbert.pipeline.audio.containers.chunks import (
    Chunk,
    ChunkForm,
    no_samples,
    require_announced,
    require_no_audio_behind,
    require_whole,
    walk_chunks,
)
from aalbert.pipeline.audio.containers.contents import NOTHING_KNOWN, Contents, PcmLayout
from aalbert.pipeline.audio.recording import Recording, UnusableAudioError

# Integer and float PCM, A-law and mu-law: every sample has the same number of bytes.
INTEGERS, FLOATS, A_LAW, MU_LAW, EXTENSIBLE = 1, 3, 6, 7, 0xFFFE
# An extensible header names the coding with 16 bytes: its number in four, and one of these, the
# second for ambisonic recordings.
EXTENSIBLE_ENDINGS = (
    bytes.fromhex("00001000800000aa00389b71"),
    bytes.fromhex("2107d3118644c8c1ca000000"),
)
# Writers that stream do not know the size yet: they write nothing, or about the largest number of
# 31 or 32 bits, some plus the bytes of the header.
UNKNOWN_SIZES = (range(0x7FFFF000, 0x80001000), range(0xFFFFF000, 0x100000000))


def examine_riff(recording: Recording) -> Contents:
    """Find the samples of a WAV; `UnusableAudioError` when it is cut off or has more behind."""
    form = ChunkForm(big_endian=recording.header[:4] == b"RIFX")
    order = ">" if form.big_endian else "<"
    layout, large = None, None
    for chunk in walk_chunks(recording, 12, form):
        if chunk.name == b"ds64" and chunk.size >= 24:
            large = struct.unpack("<QQQ", recording.read(chunk.start, 24))
        if chunk.name == b"fmt ":
            layout = recording.read(chunk.start, min(chunk.size, 40))
        if chunk.name == b"data":
            data = data_chunk(recording, chunk, large)
            require_whole(data, recording)
            require_no_audio_behind(recording, data.stop, form)
            require_all_chunks(recording, order, large)
            return contents_of(recording, layout, data, order)
        if chunk.stop > recording.size:
            require_whole(chunk, recording)
    raise no_samples()


def data_chunk(recording: Recording, chunk: Chunk, large: tuple[int, int, int] | None) -> Chunk:
    """Return the chunk of samples with its true size, where its own field does not give it."""
    rest = recording.size - chunk.start
    if large is not None and chunk.size == 0xFFFFFFFF:
        return Chunk(chunk.name, chunk.start, large[1])
    unknown = chunk.size > rest and is_unknown(chunk.size)
    # Of a recorder that never came to write its sizes, the one of the file is missing too.
    unwritten = chunk.size == 0 and not int.from_bytes(recording.header[4:8], "little")
    return Chunk(chunk.name, chunk.start, rest) if unknown or unwritten else chunk


def is_unknown(size: int) -> bool:
    """Return whether a size stands for one that was not known when it was written."""
    return any(size in sizes for sizes in UNKNOWN_SIZES)


def require_all_chunks(
    recording: Recording, order: str, large: tuple[int, int, int] | None
) -> None:
    """Raise `UnusableAudioError` when chunks are missing that the size of the file counts."""
    size = struct.unpack(f"{order}I", recording.header[4:8])[0]
    if large is not None and size == 0xFFFFFFFF:
        size = large[0]
    if not is_unknown(size):
        require_announced(recording, size + 8)


def contents_of(recording: Recording, layout: bytes | None, data: Chunk, order: str) -> Contents:
    """Return what `fmt ` and `data` say of the samples; `UnusableAudioError` if they disagree."""
    if layout is None or len(layout) < 16:
        return NOTHING_KNOWN
    coding, channels, rate, _, block, bits = struct.unpack(f"{order}HHIIHH", layout[:16])
    used_bits = bits
    if coding == EXTENSIBLE and len(layout) >= 26:
        if known := layout[28:] in EXTENSIBLE_ENDINGS:
            used_bits, _, coding = struct.unpack(f"{order}HII", layout[18:28])
        if not known or coding >= EXTENSIBLE:
            raise UnusableAudioError("names no known coding in its extensible header")
    if not channels or not block:
        return NOTHING_KNOWN
    if coding not in (INTEGERS, FLOATS, A_LAW, MU_LAW):
        return Contents(samples=count_block_samples(recording, data, coding, channels, block))
    if block != channels * -(-bits // 8) or used_bits > bits:
        raise UnusableAudioError(
            f"has a header that contradicts itself: {block} bytes for samples of "
            f"{max(bits, used_bits)} bits, channels {channels}"
        )
    if bits % 8:
        return Contents(samples=data.size // block)
    plain = PcmLayout(
        sample_rate=rate,
        channels=channels,
        bits=bits,
        start=data.start,
        stop=data.start + data.size // block * block,
        little_endian_integers=coding == INTEGERS and order == "<",
    )
    return Contents(samples=plain.samples, pcm=plain)
