"""The bytes of a recording, in memory or in a file of which only parts are read."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

# All that is needed to know a container and, of most files, where its samples are.
HEADER_BYTES = 1024


class UnusableAudioError(Exception):
    """An audio file cannot be used; the text is the reason, without the file's name."""


class Recording:
    """The bytes of a recording; `open_recording` makes one."""

    def __init__(self, source: Path | bytes, stream: BinaryIO, size: int) -> None:
        self.source = source
        self.stream = stream
        self.size = size
        self.header = self.read(0, HEADER_BYTES)

    def read(self, start: int, count: int) -> bytes:
        """Return up to `count` bytes from `start` on, fewer at the end."""
        self.stream.seek(start)
        return self.stream.read(count)

    @cached_property
    def content(self) -> bytes:
        """All bytes."""
        return self.read(0, self.size)

    def for_decoder(self) -> Path | BinaryIO:
        """Return what libsndfile opens."""
        return io.BytesIO(self.source) if isinstance(self.source, bytes) else self.source


@contextmanager
def open_recording(source: Path | bytes) -> Iterator[Recording]:
    """Open a file, or the bytes of one."""
    if isinstance(source, bytes):
        yield Recording(source, io.BytesIO(source), len(source))
        return
    with source.open("rb") as stream:
        yield Recording(source, stream, os.fstat(stream.fileno()).st_size)
