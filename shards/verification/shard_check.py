"""Comparing a shard with its layout in one pass: which of its pieces are not as written."""

import io
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import xxhash

from aalbert.shards.format.tar import BLOCK_BYTES, padding_of
from aalbert.shards.layout import END_PIECE, Layout, Piece
from aalbert.shards.verification.problem import Problem

CHUNK_BYTES = 2**22
# A shard that is altogether different is wrong everywhere; nobody reads a list of it.
NAMED_PLACES = 10
# Members that nobody wrote are stepped over, to find out what else is wrong.
STRANGERS_SKIPPED = 1000


class ShardComparison:
    """One pass over an open shard: `digest` of all bytes read so far, `problems` found."""

    def __init__(self, path: Path, stream: BinaryIO, advance: Callable[[int], object]) -> None:
        self.path = path
        self.problems: list[Problem] = []
        self._stream = stream
        self._advance = advance
        self._hash = xxhash.xxh3_128()
        self._position = 0

    def finish(self) -> str:
        """Read what is left and return the hash of the whole file (XXH3-128)."""
        while self._read(CHUNK_BYTES):
            pass
        return self._hash.hexdigest()

    def compare(self, layout: Layout, rows: Iterable[dict[str, Any]]) -> None:
        """Compare with the utterances of these index rows, and with the end after them."""
        for row in rows:
            if not all(self._compare_piece(piece) for piece in layout.utterance(row)):
                return
        self._compare_piece(END_PIECE)

    def _compare_piece(self, piece: Piece) -> bool:
        """Compare one piece; False when the file ended in it."""
        start = self._position
        if piece.offset not in (None, start):
            self._report(piece, f"the index places the {piece.what} at byte {piece.offset:,}")
        found = self._read(piece.size)
        if piece.matches(found):
            return True
        if len(found) < piece.size:
            self._report(piece, f"the file ends in the {piece.what}, at byte {self._position:,}")
            return False
        if strangers := self._strangers(start, piece):
            return self._skip(start, strangers, piece)
        self._report(piece, damage(piece, found, start))
        return True

    def _strangers(self, start: int, piece: Piece) -> list[tarfile.TarInfo]:
        """Return members that lie before a piece that is known and does begin a member."""
        found: list[tarfile.TarInfo] = []
        self._stream.seek(start)
        while len(found) < STRANGERS_SKIPPED:
            block = self._stream.read(piece.size)
            if block == piece.content:
                break
            member = parse_header(block[:BLOCK_BYTES])
            if member is None:
                found = []
                break
            found.append(member)
            self._stream.seek(BLOCK_BYTES + stored_size(member) - len(block), io.SEEK_CUR)
        self._stream.seek(start + piece.size)
        return found

    def _skip(self, start: int, strangers: list[tarfile.TarInfo], piece: Piece) -> bool:
        """Report members that do not belong and go on with the piece behind them."""
        for member in strangers:
            self._report(piece, f"{describe_member(member)} does not belong, at byte {start:,}")
            start += BLOCK_BYTES + stored_size(member)
        while self._position < start + piece.size:
            self._read(min(CHUNK_BYTES, start + piece.size - self._position))
        return True

    def _read(self, size: int) -> bytes:
        found = self._stream.read(size)
        self._hash.update(found)
        self._position += len(found)
        self._advance(len(found))
        return found

    def _report(self, piece: Piece, what: str) -> None:
        self.problems.append(
            Problem(self.path, self._position if piece.key is None else piece.key, what)
        )


def damage(piece: Piece, found: bytes, start: int) -> str:
    """Say that a piece is not what was written, where it lies, and what is there if it shows."""
    text = f"{piece.what} is not what was written, bytes {start:,} to {start + piece.size:,}"
    seen = None
    if piece.what.startswith("tar header"):
        member = parse_header(found)
        seen = describe_member(member) if member else None
    elif piece.what.startswith("npy header"):
        seen = describe_npy(found)
    return f"{text}: there is {seen}" if seen else text


def parse_header(block: bytes) -> tarfile.TarInfo | None:
    """Return what a tar header says; None when it is none, or damaged."""
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return None


def stored_size(member: tarfile.TarInfo) -> int:
    """Return the bytes that follow the header of a member."""
    size = max(0, member.size) if member.isreg() else 0
    return size + padding_of(size)


def describe_member(member: tarfile.TarInfo) -> str:
    """Name a member and say of what kind it is: nothing but a plain file belongs in a shard."""
    if member.issym() or member.islnk():
        return f"a link {member.name!r} to {member.linkname!r}"
    return f"a file {member.name!r}" if member.isreg() else f"a special file {member.name!r}"


def describe_npy(found: bytes) -> str | None:
    """Say which array a `.npy` header announces; None when it is none."""
    stream = io.BytesIO(found)
    try:
        np.lib.format.read_magic(stream)
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    except ValueError:
        return None
    pickled = ", a pickle, which is not opened" if dtype.hasobject else ""
    return f"an array of {dtype} {shape}{pickled}"
