"""What a tar holds, read as a stream that only goes forward and whose headers nobody trusts."""

import gzip
import io
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from aalbert.pipeline.corpora.corpus import APPLE_DOUBLE_PREFIX, Skip

CHUNK_BYTES = 2**20
# The owner of a stream is told of every so many bytes.
STEP_BYTES = 2**26
LARGEST_MEMBER = 2**31
# The most that is read at once: a header, what it has behind it such as a long name, or a text.
LARGEST_READ = 2**20
END_BLOCK = bytes(tarfile.BLOCKSIZE)


@dataclass(frozen=True, kw_only=True)
class Member:
    """A regular file in an archive: `size` bytes from `offset` in the unpacked bytes."""

    name: str
    offset: int
    size: int


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What an archive holds, in its order; of members with the same name the last counts.

    `texts` has the content of the members that were to be kept, by name.
    """

    members: tuple[Member, ...]
    skipped: tuple[Skip, ...]
    texts: dict[str, str]


class ForwardStream(io.RawIOBase):
    """The unpacked bytes of an archive, read once and only forward.

    `tarfile` reads headers from it and seeks over what lies between them. `advance` is
    called with the position now and then, and at the end.
    """

    def __init__(self, unpacked: gzip.GzipFile, advance: Callable[[int], None]) -> None:
        self.unpacked = unpacked
        self.advance = advance
        self.advanced_to = 0
        self.position = 0
        self.last_read = b""

    def tell(self) -> int:
        """Return the number of bytes read or passed over."""
        return self.position

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes; `tarfile.ReadError` for more than a header or text has."""
        if not 0 <= size <= LARGEST_READ:
            raise tarfile.ReadError(f"a header or text of {size} bytes")
        self.last_read = self.take(size)
        return self.last_read

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Pass over the bytes up to `offset`; `tarfile.ReadError` when it lies behind."""
        if offset < self.position or whence != io.SEEK_SET:
            raise tarfile.ReadError("a header that points backwards")
        while self.position < offset and self.take(min(CHUNK_BYTES, offset - self.position)):
            pass
        return self.position

    def finish(self) -> None:
        """Pass over what is left, at whose end are the checksum and the size."""
        while self.take(CHUNK_BYTES):
            pass
        self.advance(self.position)

    def take(self, size: int) -> bytes:
        """Unpack up to `size` bytes."""
        data = self.unpacked.read(size)
        self.position += len(data)
        if self.position >= self.advanced_to + STEP_BYTES:
            self.advance(self.position)
            self.advanced_to = self.position
        return data


def scan(stream: ForwardStream, kept: tuple[str, ...]) -> Listing:
    """List what a tar holds, with the texts of the members whose names end in one of `kept`.

    Raises `tarfile.ReadError` when it ends without its end mark, and `UnicodeDecodeError`
    for a text that is not UTF-8.
    """
    members: dict[str, Member] = {}
    skipped: list[Skip] = []
    texts: dict[str, str] = {}
    for info in read_headers(stream):
        if (reason := refusal(info)) is not None:
            skipped.append(Skip(source=printable(info.name), reason=reason))
            continue
        members.pop(info.name, None)  # the later one counts, as when the archive is unpacked
        members[info.name] = Member(name=info.name, offset=info.offset_data, size=info.size)
        if info.name.endswith(kept):
            texts[info.name] = stream.read(info.size).decode("utf-8")
    # `tarfile` takes a header that it cannot read for the end of the archive.
    if stream.last_read != END_BLOCK:
        raise tarfile.ReadError("a header that cannot be read, or no end mark")
    stream.finish()
    return Listing(members=tuple(members.values()), skipped=tuple(skipped), texts=texts)


def read_headers(stream: ForwardStream) -> Iterator[tarfile.TarInfo]:
    """Yield the headers of a tar, but for folders and the side files of macOS."""
    with tarfile.TarFile(fileobj=stream, encoding="utf-8", errors="surrogateescape") as tar:
        while (info := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined]  # else it keeps every header
            if not (info.isdir() or PurePosixPath(info.name).name.startswith(APPLE_DOUBLE_PREFIX)):
                yield info


def refusal(info: tarfile.TarInfo) -> str | None:
    """Say why a member is not taken; None when it is."""
    path = PurePosixPath(info.name)
    if path.is_absolute():
        return "has an absolute name in the archive"
    if ".." in path.parts:
        return "has a name with '..' in the archive"
    if printable(info.name) != info.name:
        return "has a name in the archive that is not UTF-8"
    if info.issym() or info.islnk():
        return "is a link in the archive"
    if not info.isreg() or info.issparse():
        return "is a device or another special file in the archive"
    if not 0 <= info.size <= LARGEST_MEMBER:
        return f"claims to be larger than 2 GiB: {info.size} bytes"
    return None


def printable(name: str) -> str:
    """Return a name with the bytes that are not UTF-8 as escapes."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")
