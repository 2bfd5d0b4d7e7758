"""NIST SPHERE, in which LDC publishes its corpora."""

import re

from aalbert.pipeline.audio.containers.chunks import (
    Chunk,
    ChunkForm,
    require_no_audio_behind,
    require_whole,
)
from aalbert.pipeline.audio.containers.contents import NOTHING_KNOWN, Contents
from aalbert.pipeline.audio.recording import Recording, UnusableAudioError

FIELD = re.compile(rb"^(\w+) -\w+ (\S+)", re.MULTILINE)
END = b"end_head"
LONGEST_HEADER_BYTES = 65_536
COUNTS = (b"sample_count", b"channel_count", b"sample_n_bytes")


def examine_sphere(recording: Recording) -> Contents:
    """Read the number of samples; `UnusableAudioError` when it is cut off or has more behind.

    Only uncompressed samples can be counted.
    """
    size = recording.header.split(b"\n", 2)[1:2]
    start = int(size[0]) if size and size[0].strip().isdigit() else 0
    header = recording.read(0, min(start, LONGEST_HEADER_BYTES))
    fields = dict(FIELD.findall(header))
    values = [fields.get(name, b"") for name in COUNTS]
    if b"shorten" in fields.get(b"sample_coding", b""):
        return NOTHING_KNOWN
    if END not in header or not all(text.isdigit() for text in values):
        raise UnusableAudioError("has a SPHERE header that does not say what it holds")
    samples, channels, sample_bytes = (int(text) for text in values)
    data = Chunk(b"data", start, samples * channels * sample_bytes)
    require_whole(data, recording)
    require_no_audio_behind(recording, data.stop, ChunkForm(alignment=1))
    return Contents(samples=samples)
