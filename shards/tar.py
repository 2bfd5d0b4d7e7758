"""Tar files that are a pure function of their members: no clock, no owner, no machine in them."""

import tarfile
from typing import BinaryIO

BLOCK_BYTES = 512
# GNU tar and Python close an archive with two empty blocks and pad it to whole records.
END_BYTES = 2 * BLOCK_BYTES


def member_header(name: str, size: int) -> bytes:
    """Return the 512-byte ustar header of a regular file with fixed owner, mode and time."""
    member = tarfile.TarInfo(name)
    member.size = size
    member.mode = 0o644
    member.mtime = 0
    return member.tobuf(format=tarfile.USTAR_FORMAT, encoding="utf-8")


class TarWriter:
    """Writes members one after another and says where their bytes went.

    Members begin on 512-byte blocks, so a payload whose own header is a multiple of
    64 bytes long, as that of a `.npy` is, keeps its data on a 64-byte boundary.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._position = 0

    def add(self, name: str, payload: bytes) -> int:
        """Append a member and return the offset of its payload in the file, in bytes."""
        self._write(member_header(name, len(payload)))
        offset = self._position
        self._write(payload)
        self._write(bytes(-len(payload) % BLOCK_BYTES))
        return offset

    def finish(self) -> None:
        """Write the end of the archive."""
        self._write(bytes(END_BYTES))

    def _write(self, data: bytes) -> None:
        self._stream.write(data)
        self._position += len(data)
