"""Files that are made of chunks: a name, a size, and as many bytes. WAV, AIFF, CAF, Wave64."""

from collections.abc import Iterator
from dataclasses import dataclass

from aalbert.pipeline.audio.containers.tags import skip_tags
from aalbert.pipeline.audio.recording import Recording, UnusableAudioError

# Names that begin another file, not a chunk of this one.
OTHER_FILES = (
    *(b"RIFF", b"RIFX", b"RF64", b"riff", b"FORM", b"caff"),
    *(b".snd", b"dns.", b"NIST", b"fLaC", b"OggS"),
)
# How far the size of the whole file may be beyond its end: a header counted in, and padding.
SIZE_SLACK_BYTES = 9
# The chunks in which samples are, one in a file.
SAMPLE_CHUNKS = (b"data", b"SSND")
# The beginnings of tags whose names are text.
TAGS = (b"TAG", b"APET")
# A file is padded with zeros, to a block of a disk or by a downloader.
BLOCK_BYTES = 65_536


@dataclass(frozen=True)
class ChunkForm:
    """How chunks are written: the bytes of a name and of a size, and their order.

    A size may count its own header, and chunks are padded to a multiple of `alignment`.
    """

    name_bytes: int = 4
    size_bytes: int = 4
    big_endian: bool = False
    counts_header: bool = False
    alignment: int = 2

    @property
    def header_bytes(self) -> int:
        """Bytes before the content of a chunk."""
        return self.name_bytes + self.size_bytes


@dataclass(frozen=True)
class Chunk:
    """A chunk: its name, and the position of its content, in bytes."""

    name: bytes
    start: int
    size: int

    @property
    def stop(self) -> int:
        """The position after the content, without padding."""
        return self.start + self.size


def walk_chunks(recording: Recording, position: int, form: ChunkForm) -> Iterator[Chunk]:
    """Yield the chunks from a position on, up to the end of the file or what is no chunk.

    Sizes are as announced; a chunk may end beyond the file, and is then the last one.
    """
    order = "big" if form.big_endian else "little"
    while position + form.header_bytes <= recording.size:
        header = recording.read(position, form.header_bytes)
        name = header[: form.name_bytes]
        if not is_chunk_name(name[:4]):
            return
        size = int.from_bytes(header[form.name_bytes :], order)  # type: ignore[arg-type]
        if form.counts_header:
            size -= form.header_bytes
        if size < 0:
            return
        chunk = Chunk(name, position + form.header_bytes, size)
        yield chunk
        if chunk.stop > recording.size:
            return
        position = chunk.stop + -size % form.alignment


def is_chunk_name(name: bytes) -> bool:
    """Return whether four bytes can be the name of a chunk: text that begins no other file."""
    text = all(0x20 <= byte < 0x7F for byte in name)
    return text and name not in OTHER_FILES and not name.startswith(TAGS)


def require_whole(chunk: Chunk, recording: Recording) -> None:
    """Raise `UnusableAudioError` when a chunk ends beyond the file."""
    if chunk.stop > recording.size:
        raise cut_off(recording.size, chunk.stop)


def require_announced(recording: Recording, announced: int, slack: int = SIZE_SLACK_BYTES) -> None:
    """Raise `UnusableAudioError` when chunks are missing that the size of the file counts."""
    if announced > recording.size + slack:
        raise cut_off(recording.size, announced)


def no_samples() -> UnusableAudioError:
    """Return the error of a file without the chunk of samples.

    libsndfile looks for it also where a wrong size leads elsewhere, and then cuts are not seen.
    """
    return UnusableAudioError("damaged: its chunks lead to no samples")


def cut_off(size: int, announced: int) -> UnusableAudioError:
    """Return the error of a file that is shorter than its header says."""
    return UnusableAudioError(f"cut off: {size} bytes, the header says {announced}")


def require_no_audio_behind(recording: Recording, position: int, form: ChunkForm) -> None:
    """Raise `UnusableAudioError` when more than chunks, tags and zeros follow a position."""
    fault = UnusableAudioError(
        f"goes on after the end that its header announces: {recording.size - position} bytes "
        "more, which may be audio; write it anew with right sizes"
    )
    # Not every writer pads.
    for start in dict.fromkeys((position + -position % form.alignment, position)):
        reached = skip_tags(recording, start)
        for chunk in walk_chunks(recording, reached, form):
            if chunk.stop > recording.size:
                fault = cut_off(recording.size, chunk.stop)
                break
            if chunk.name[:4] in SAMPLE_CHUNKS:
                break
            reached = skip_tags(recording, chunk.stop + -chunk.size % form.alignment)
        if is_end(recording, reached):
            return
    raise fault


def is_end(recording: Recording, position: int) -> bool:
    """Return whether nothing but zeros and tags follow a position."""
    rest = recording.read(position, BLOCK_BYTES)
    tags = position + len(rest) - len(rest.lstrip(b"\0"))
    return skip_tags(recording, tags) == recording.size
