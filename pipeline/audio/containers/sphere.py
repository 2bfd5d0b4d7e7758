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
COUNTS = (b"sample_count", b"channel_count", b"sample_n_bytes")


def examine_sphere(recording: Recording) -> Contents:
    """Read the number of samples; `UnusableAudioError` when it is cut off or has more behind.

    Only uncompressed samples can be counted.
    """
    lines = recording.header.split(b"\n", 2)
    fields = dict(FIELD.findall(recording.header))
    values = [fields.get(name, b"") for name in COUNTS]
    if b"shorten" in fields.get(b"sample_coding", b""):
        return NOTHING_KNOWN
    if len(lines) < 3 or not all(text.strip().isdigit() for text in (lines[1], *values)):
        raise UnusableAudioError("has a SPHERE header that does not say what it holds")
    start, samples, channels, sample_bytes = (int(text) for text in (lines[1], *values))
    data = Chunk(b"data", start, samples * channels * sample_bytes)
    require_whole(data, recording)
    require_no_audio_behind(recording, data.stop, ChunkForm(alignment=1))
    return Contents(samples=samples)
