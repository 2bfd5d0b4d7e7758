"""The check of a shard: every byte compared, in one pass, with what its index rows imply.

All that the writer decides is in the index. So the layout of a shard follows from its rows, and a
damaged byte can be attributed to a header, a payload or padding. The contents of a shard are not
interpreted for that, let alone unpickled.
"""

import io
import tarfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, BinaryIO

import numpy as np
import xxhash
from numpy.typing import NDArray

from aalbert.shards.format.index import location_columns
from aalbert.shards.format.npy import NPY_ERRORS
from aalbert.shards.format.problem import Problem
from aalbert.shards.format.tar import BLOCK_BYTES, END_BYTES, member_header, padding_bytes
from aalbert.shards.format.writer import encode_json
from aalbert.shards.verification.values_check import payload_problem

# The mean and deviation `(2, dims)` of each feature of an utterance, by name.
Statistics = Mapping[str, NDArray[np.float32]]

CHUNK_BYTES = 2**22
# A completely different shard is wrong everywhere, and nobody reads a list of all differences.
REPORTED_PIECES = 10
# Unexpected members are skipped, to find further problems.
MOST_SKIPPED_MEMBERS = 1000


@dataclass(frozen=True, slots=True)
class Piece:
    """A sequence of bytes of a shard, of an utterance or (`key` of None) the end of the archive.

    `content` is the bytes themselves. For a payload it is None, `xxh3` is their hash (XXH3-64)
    and `offset` their location according to the index; `statistics (2, dims)` are the mean and
    deviation of its numbers, where they are known.
    """

    what: str
    key: str | None
    size: int
    content: bytes | None = None
    offset: int | None = None
    xxh3: int | None = None
    statistics: NDArray[np.float32] | None = None

    def matches(self, found: bytes) -> bool:
        """Return whether these bytes are those of the piece."""
        if self.content is not None:
            return found == self.content
        return len(found) == self.size and xxhash.xxh3_64_intdigest(found) == self.xxh3


END_PIECE = Piece("end of the archive", None, END_BYTES, content=bytes(END_BYTES))


@dataclass(frozen=True, kw_only=True)
class ShardLayout:
    """The layout of the utterances of a dataset in its shards.

    `feature_dims` maps every feature to its dimensions; `metadata` are the columns of the index
    that the JSON member repeats.
    """

    feature_dims: Mapping[str, int]
    metadata: tuple[str, ...]

    def utterance(self, row: Mapping[str, Any], statistics: Statistics) -> list[Piece]:
        """Return the pieces of an utterance in their order in the shard.

        They follow from its index row and, where they are known, the statistics of each feature.
        """
        key = row["key"]
        pieces: list[Piece] = []
        for name in sorted(self.feature_dims):
            pieces += feature_pieces(row, name, self.feature_dims[name], statistics.get(name))
        metadata = encode_json({name: row[name] for name in self.metadata})
        return [*pieces, *member_pieces(f"{key}.json", key, "content", metadata)]


def layout_of(feature_dims: Mapping[str, int], columns: Iterable[str]) -> ShardLayout:
    """Return the layout of a dataset with these features, whose index has these columns."""
    locations = {field.name for name in feature_dims for field in location_columns(name)}
    metadata = tuple(name for name in columns if name not in {"shard", *locations})
    return ShardLayout(feature_dims=feature_dims, metadata=metadata)


def feature_pieces(
    row: Mapping[str, Any], name: str, dims: int, statistics: NDArray[np.float32] | None
) -> list[Piece]:
    """Return the pieces of one feature of an utterance."""
    key, size = row["key"], row[f"{name}_bytes"]
    start = npy_header(row[f"{name}_frames"], dims)
    header, content, padding = member_pieces(
        f"{key}.{name}.npy", key, "npy header", start, more=size
    )
    payload = Piece(
        f"payload of '{key}' ({name})",
        key,
        size,
        offset=row[f"{name}_offset"],
        xxh3=row[f"{name}_xxh3"],
        statistics=statistics,
    )
    return [header, content, payload, padding]


def member_pieces(member: str, key: str, what: str, content: bytes, more: int = 0) -> list[Piece]:
    """Return tar header, content and padding of a member with `more` bytes after the content."""
    size = len(content) + more
    padding = padding_bytes(size)
    header = member_header(member, size)
    return [
        Piece(f"tar header of '{member}'", key, len(header), content=header),
        Piece(f"{what} of '{member}'", key, len(content), content=content),
        Piece(f"padding after '{member}'", key, padding, content=bytes(padding)),
    ]


@lru_cache(maxsize=4096)
def npy_header(frames: int, dims: int) -> bytes:
    """Return NumPy's header of a `.npy` file of this shape."""
    buffer = io.BytesIO()
    header = {"descr": "<f2", "fortran_order": False, "shape": (frames, dims)}
    np.lib.format.write_array_header_1_0(buffer, header)
    return buffer.getvalue()


class ShardComparison:
    """One pass over an open shard, which collects `problems` and the hash of all bytes.

    `end` is where the archive ends, once it has been compared to there.
    """

    def __init__(self, path: str, stream: BinaryIO, advance: Callable[[int], object]) -> None:
        self.path = path
        self.problems: list[Problem] = []
        self._stream = stream
        self._advance = advance
        self._hash = xxhash.xxh3_128()
        self._position = 0
        self.end: int | None = None

    def finish(self) -> str:
        """Read the rest and return the hash of the whole file (XXH3-128)."""
        while self._read(CHUNK_BYTES):
            pass
        return self._hash.hexdigest()

    def compare(
        self, layout: ShardLayout, utterances: Iterable[tuple[dict[str, Any], Statistics]]
    ) -> None:
        """Compare the shard with these index rows, their statistics and the archive's end."""
        for row, statistics in utterances:
            pieces = layout.utterance(row, statistics)
            if not all(self._compare_piece(piece) for piece in pieces):
                return
        self._compare_piece(END_PIECE)
        self.end = self._position

    def _compare_piece(self, piece: Piece) -> bool:
        """Compare one piece; return False when the file ended in it."""
        start = self._position
        if piece.offset not in (None, start):
            self._report(piece, f"the index places the {piece.what} at byte {piece.offset:,}")
        found = self._read(piece.size)
        if piece.matches(found):
            if piece.statistics is not None and (what := payload_problem(found, piece.statistics)):
                self._report(piece, f"the {piece.what} {what}")
            return True
        if len(found) < piece.size:
            self._report(piece, f"the file ends in the {piece.what}, at byte {self._position:,}")
            return False
        if unexpected := self._unexpected_members(start, piece):
            self._skip(start, unexpected, piece)
        else:
            self._report(piece, describe_damage(piece, found, start))
        return True

    def _unexpected_members(self, start: int, piece: Piece) -> list[tarfile.TarInfo]:
        """Return the members before a piece; none when it is not found after them."""
        found: list[tarfile.TarInfo] = []
        self._stream.seek(start)
        while len(found) < MOST_SKIPPED_MEMBERS:
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

    def _skip(self, start: int, members: list[tarfile.TarInfo], piece: Piece) -> None:
        """Report unexpected members, and read them and the piece after them."""
        for member in members:
            self._report(piece, f"{describe_member(member)} does not belong, at byte {start:,}")
            start += BLOCK_BYTES + stored_size(member)
        while self._position < start + piece.size:
            self._read(min(CHUNK_BYTES, start + piece.size - self._position))

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


def describe_damage(piece: Piece, found: bytes, start: int) -> str:
    """Return the message that a piece has changed: its location, and what was found if known."""
    text = f"{piece.what} is not what was written, bytes {start:,} to {start + piece.size:,}"
    seen = None
    if piece.what.startswith("tar header"):
        member = parse_header(found)
        seen = describe_member(member) if member else None
    elif piece.what.startswith("npy header"):
        seen = describe_npy(found)
    return f"{text}: there is {seen}" if seen else text


def parse_header(block: bytes) -> tarfile.TarInfo | None:
    """Return the member that a tar header describes; None when it is damaged or not a header."""
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return None


def stored_size(member: tarfile.TarInfo) -> int:
    """Return the number of bytes after the header of a member, including padding."""
    size = max(0, member.size) if member.isreg() else 0
    return size + padding_bytes(size)


def describe_member(member: tarfile.TarInfo) -> str:
    """Return name and kind of a member; only plain files belong in a shard."""
    if member.issym() or member.islnk():
        return f"a link {member.name!r} to {member.linkname!r}"
    return f"a file {member.name!r}" if member.isreg() else f"a special file {member.name!r}"


def describe_npy(found: bytes) -> str | None:
    """Return dtype and shape from a `.npy` header; None when it is not a header."""
    stream = io.BytesIO(found)
    try:
        np.lib.format.read_magic(stream)
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    except NPY_ERRORS:
        return None
    pickled = ", a pickle, which is not opened" if dtype.hasobject else ""
    return f"an array of {dtype} {shape}{pickled}"
