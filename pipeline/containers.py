"""How long an audio file says it is: libsndfile reads what is left of a cut one without error."""

import io
import re
import struct
from pathlib import Path

HEADER_BYTES = 1024
# Writers that stream do not know the size yet and leave about the largest one that fits into
# 32 bits, with or without sign.
UNKNOWN_SIZES = (range(0x7FFFF000, 0x80000000), range(0xFFFFF000, 0x100000000))


def announced_bytes(path: Path | bytes) -> int | None:
    """Return the size that a file's header announces, if its format announces one."""
    with io.BytesIO(path) if isinstance(path, bytes) else path.open("rb") as stream:
        header = stream.read(HEADER_BYTES)
    kind, form = header[:4], header[8:12]
    if kind == b"RIFF" and form == b"WAVE":
        return riff_bytes("<I", header)
    if kind == b"FORM" and form in (b"AIFF", b"AIFC"):
        return riff_bytes(">I", header)
    if kind == b"RF64" and header[12:16] == b"ds64":
        return int(struct.unpack("<Q", header[20:28])[0]) + 8
    if header.startswith(b"NIST_1A"):
        return sphere_bytes(header)
    return None


def riff_bytes(layout: str, header: bytes) -> int | None:
    """Return the size of a RIFF or IFF file: the size of its one chunk and that chunk's header."""
    size = int(struct.unpack(layout, header[4:8])[0])
    return None if any(size in sizes for sizes in UNKNOWN_SIZES) else size + 8


def sphere_bytes(header: bytes) -> int | None:
    """Return the size of a NIST SPHERE file of uncompressed samples."""
    fields = dict(re.findall(rb"^(\w+) -\w+ (\S+)", header, re.MULTILINE))
    if b"shorten" in fields.get(b"sample_coding", b""):
        return None
    counts = [fields.get(name) for name in (b"sample_count", b"channel_count", b"sample_n_bytes")]
    size_line = header.split(b"\n", 2)[1]
    if None in counts or not size_line.strip().isdigit():
        return None
    samples, channels, sample_bytes = (int(count) for count in counts if count)
    return int(size_line) + samples * channels * sample_bytes
