"""Files written by `torch.save` of any version, read without running code in them.

Since torch 1.6 such a file is a zip archive of a pickle and one member per storage. Before that,
it is a sequence of pickles followed by the storages (`torch/serialization.py` of torch 1.5).
"""

import errno
import io
import struct
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import torch
from torch import Tensor

from aalbert.errors import InputError, IntegrityError
from aalbert.models.torch_files.pickles import Interpreter
from aalbert.models.torch_files.tensors import Storage, Storages, StoredTensor

ZIP_MAGIC, PICKLE_MAGIC = b"PK\x03\x04", b"\x80"
# The values of the first two pickles of a file from before torch 1.6.
LEGACY_MAGIC, LEGACY_VERSION = 0x1950A86A20F9469CFC6C, 1001
# The pickle of a checkpoint contains names and settings, some hundred kB.
LARGEST_PICKLE_BYTES = 64 * 2**20
# A member for each storage, so some thousand.
MOST_MEMBERS = 100_000
# What `zipfile` raises for names, versions and offsets that no archive has.
ZIP_DAMAGE = (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError, struct.error)


@dataclass(frozen=True)
class TorchFile:
    """An open file: its object, with `StoredTensor` for tensors, and a reader of their bytes.

    Every storage is read once, and its tensors share the memory, as they share the bytes in the
    file of `size` bytes.
    """

    document: Any
    read_storage: Callable[[Storage], bytes]
    size: int
    storages: dict[str, Tensor] = field(default_factory=dict)

    def tensor(self, stored: StoredTensor) -> Tensor:
        """Return a tensor, a view of its storage."""
        key, dtype = stored.storage.key, stored.storage.dtype
        if key not in self.storages:
            data = bytearray(self.read_storage(stored.storage))
            self.storages[key] = (
                torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
            )
        return self.storages[key].as_strided(stored.shape, stored.stride, stored.offset)


@contextmanager
def open_torch_file(path: Path) -> Iterator[TorchFile]:
    """Open a file written by `torch.save`.

    Raises `InputError` for any other file, `IntegrityError` when it is damaged or would run code.
    """
    with path.open("rb") as stream:
        start = stream.read(len(ZIP_MAGIC))
        stream.seek(0)
        if start == ZIP_MAGIC:
            with naming_damage():
                archive = zipfile.ZipFile(stream)
            with archive:
                yield read_archive(archive, path.stat().st_size)
        elif start.startswith(PICKLE_MAGIC):
            # Read, not mapped: a file that is cut off while it is mapped ends the process.
            yield read_legacy(stream, path.stat().st_size)
        else:
            raise InputError("not a checkpoint: expected a file that torch.save wrote")


@contextmanager
def naming_damage() -> Iterator[None]:
    """Raise `IntegrityError` for what `zipfile` raises in the block."""
    try:
        yield
    except ZIP_DAMAGE as error:
        raise IntegrityError(f"its zip archive is damaged or cut short: {error}") from error
    except OSError as error:
        # A member that begins before or far behind the file; any other is an error of the disk.
        if error.errno != errno.EINVAL:
            raise
        raise IntegrityError("its zip archive has members outside the file") from error


def read_archive(archive: zipfile.ZipFile, file_size: int) -> TorchFile:
    """Read the pickle of a zip archive, and check the sizes of the storages."""
    members = checked_members(archive, file_size)
    pickles = [name for name in members if PurePosixPath(name).name == "data.pkl"]
    if len(pickles) != 1:
        raise InputError(f"a zip archive with {len(pickles)} data.pkl, not one of torch.save")
    folder = PurePosixPath(pickles[0]).parent
    if members[pickles[0]] > LARGEST_PICKLE_BYTES:
        raise IntegrityError(f"its pickle has {members[pickles[0]]:,} bytes, no checkpoint's has")

    def read_member(name: str) -> bytes:
        with naming_damage():
            return archive.read(name)

    if str(folder / "byteorder") in members:
        check_byte_order(read_member(str(folder / "byteorder")) == b"little")
    storages = Storages()
    document = Interpreter(storages.replacements()).read(io.BytesIO(read_member(pickles[0])))
    for storage in storages.found.values():
        check_size(storage, members.get(str(folder / "data" / storage.key)))
    return TorchFile(
        document, lambda storage: read_member(str(folder / "data" / storage.key)), file_size
    )


def checked_members(archive: zipfile.ZipFile, file_size: int) -> dict[str, int]:
    """Return the size of each member; raise `IntegrityError` for what `torch.save` never writes."""
    members: dict[str, int] = {}
    if len(archive.infolist()) > MOST_MEMBERS:
        raise IntegrityError(f"it has {len(archive.infolist()):,} members, no checkpoint has")
    for member in archive.infolist():
        path = PurePosixPath(member.filename)
        if path.is_absolute() or ".." in path.parts or "\\" in member.filename:
            raise IntegrityError(f"its member '{member.filename}' lies outside the archive")
        if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
            raise IntegrityError(f"its member '{member.filename}' is compressed or encrypted")
        if member.filename in members:
            raise IntegrityError(f"its member '{member.filename}' is there twice")
        members[member.filename] = member.file_size
    if sum(members.values()) > file_size:
        raise IntegrityError("its members claim more bytes than the file has")
    return members


def read_legacy(stream: BinaryIO, file_size: int) -> TorchFile:
    """Read the pickles of a file from before torch 1.6, and locate its storages."""
    # From memory: there a length that a damaged pickle claims allocates nothing.
    pickles = io.BytesIO(stream.read(min(file_size, LARGEST_PICKLE_BYTES)))
    magic, version, system = (Interpreter({}).read(pickles) for _ in range(3))
    if (magic, version) != (LEGACY_MAGIC, LEGACY_VERSION) or not isinstance(system, dict):
        raise InputError("a pickle, but not one that torch.save wrote")
    check_byte_order(bool(system.get("little_endian")))
    storages = Storages()
    document = Interpreter(storages.replacements()).read(pickles)
    keys = Interpreter({}).read(pickles)
    stream.seek(pickles.tell())
    offsets = storage_offsets(stream, file_size, storages.found, keys)

    def read_storage(storage: Storage) -> bytes:
        stream.seek(offsets[storage.key])
        data = stream.read(storage.size)
        check_size(storage, len(data))
        return data

    return TorchFile(document, read_storage, file_size)


def storage_offsets(
    stream: BinaryIO, file_size: int, found: dict[str, Storage], keys: Any
) -> dict[str, int]:
    """Return the offset of each storage; the number of its elements precedes each."""
    offsets: dict[str, int] = {}
    position = stream.tell()
    for key in keys if isinstance(keys, list) else ():
        storage = found.get(key) if isinstance(key, str) else None
        stream.seek(position)
        header = stream.read(8)
        if storage is None or len(header) < 8 or struct.unpack("<q", header)[0] != storage.elements:
            raise IntegrityError(f"its storage {key} is damaged or cut short")
        offsets[storage.key] = position + 8
        position += 8 + storage.size
    for storage in found.values():
        start = offsets.get(storage.key)
        check_size(storage, None if start is None else min(storage.size, file_size - start))
    return offsets


def check_size(storage: Storage, size: int | None) -> None:
    """Raise `IntegrityError` for a storage that is missing or has a wrong size."""
    if size != storage.size:
        raise IntegrityError(
            f"its storage {storage.key} has {size or 0:,} bytes where {storage.elements:,} "
            f"numbers take {storage.size:,}"
        )


def check_byte_order(little: bool) -> None:
    """Raise `InputError` for numbers of another byte order."""
    if little != (sys.byteorder == "little"):
        raise InputError("written on a machine of another byte order: save it again on this kind")
