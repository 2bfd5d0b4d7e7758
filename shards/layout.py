"""A shard as its index rows say it must be: every byte of it, but for the features themselves.

The writer decides nothing that the index does not say, so that a shard can be compared with
its layout piece by piece, and a damage has a name: this header, that payload, the padding
after it. Nothing that a shard holds is interpreted for that, let alone unpickled.
"""

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import xxhash

from aalbert.shards.format.index import place_columns
from aalbert.shards.format.tar import END_BYTES, member_header, padding_of
from aalbert.shards.format.writer import encode_json


@dataclass(frozen=True, slots=True)
class Piece:
    """Some bytes of a shard, of an utterance or of the end of the archive (`key` of None).

    `content` says the bytes themselves. For a payload it is None, `xxh3` is their hash
    (XXH3-64) and `offset` where the index places them.
    """

    what: str
    key: str | None
    size: int
    content: bytes | None = None
    offset: int | None = None
    xxh3: int | None = None

    def matches(self, found: bytes) -> bool:
        """Say whether these are the bytes."""
        if self.content is not None:
            return found == self.content
        return len(found) == self.size and xxhash.xxh3_64_intdigest(found) == self.xxh3


END_PIECE = Piece("end of the archive", None, END_BYTES, content=bytes(END_BYTES))


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How the utterances of a dataset are stored.

    `feature_dims` maps every feature to its numbers per frame; `described` names the
    columns of the index that the JSON member repeats.
    """

    feature_dims: Mapping[str, int]
    described: tuple[str, ...]

    def utterance(self, row: Mapping[str, Any]) -> list[Piece]:
        """Return the pieces of an utterance as they lie in the shard, from its index row."""
        key = row["key"]
        pieces: list[Piece] = []
        for name in sorted(self.feature_dims):
            pieces += feature_pieces(row, name, self.feature_dims[name])
        about = encode_json({name: row[name] for name in self.described})
        return [*pieces, *member_pieces(f"{key}.json", key, "content", about)]


def layout_of(feature_dims: Mapping[str, int], columns: Iterable[str]) -> Layout:
    """Return the layout of a dataset with these features, whose index has these columns."""
    places = {field.name for name in feature_dims for field in place_columns(name)}
    described = tuple(name for name in columns if name not in {"shard", *places})
    return Layout(feature_dims=feature_dims, described=described)


def feature_pieces(row: Mapping[str, Any], name: str, dims: int) -> list[Piece]:
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
    )
    return [header, content, payload, padding]


def member_pieces(member: str, key: str, what: str, content: bytes, more: int = 0) -> list[Piece]:
    """Return tar header, content and padding of a member; `more` bytes follow the content."""
    size = len(content) + more
    padding = padding_of(size)
    header = member_header(member, size)
    return [
        Piece(f"tar header of '{member}'", key, len(header), content=header),
        Piece(f"{what} of '{member}'", key, len(content), content=content),
        Piece(f"padding after '{member}'", key, padding, content=bytes(padding)),
    ]


@lru_cache(maxsize=4096)
def npy_header(frames: int, dims: int) -> bytes:
    """Return what comes before the numbers in the `.npy` of a feature of this shape."""
    buffer = io.BytesIO()
    about = {"descr": "<f2", "fortran_order": False, "shape": (frames, dims)}
    np.lib.format.write_array_header_1_0(buffer, about)
    return buffer.getvalue()
