"""Where `prepare` puts its files: a folder, or anything that fsspec reaches."""

import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from aalbert.errors import OutputInUseError
from aalbert.files import TEMPORARY_SUFFIX
from aalbert.pipeline.lock import hold


class Output(Protocol):
    """A place for the files of a dataset; it travels to workers, so it holds no open files."""

    @property
    def name(self) -> str:
        """What the user called it, for messages."""

    def has(self, path: str) -> bool:
        """Say whether there is a finished file, or a folder, of that name."""

    def sizes(self) -> dict[str, int]:
        """Return the size in bytes of every finished file, by its path below the output."""

    def fetch(self, path: str) -> Path:
        """Return a local file with the content of `path`, to be read."""

    def build(self, path: str) -> AbstractContextManager[Path]:
        """Give a local path to write; the file is published when the block ends."""

    def remove(self, path: str) -> None:
        """Remove a file or a folder, if it is there."""

    def free_bytes(self) -> int | None:
        """Return the free space, if it is known."""

    def hold(self, lock: str, shared: bool = False) -> AbstractContextManager[None]:
        """Hold a lock; `OutputInUseError` names who else does."""


@dataclass(frozen=True, kw_only=True)
class LocalOutput:
    """A folder of this machine or of a shared file system."""

    folder: Path

    @property
    def name(self) -> str:
        """The folder."""
        return str(self.folder)

    def has(self, path: str) -> bool:
        """Say whether there is a finished file, or a folder, of that name."""
        return (self.folder / path).exists()

    def sizes(self) -> dict[str, int]:
        """Return the size in bytes of every finished file."""
        return {
            path.relative_to(self.folder).as_posix(): path.stat().st_size
            for path in self.folder.rglob("*")
            if path.is_file() and path.suffix != TEMPORARY_SUFFIX
        }

    def fetch(self, path: str) -> Path:
        """Return the file itself."""
        return self.folder / path

    @contextmanager
    def build(self, path: str) -> Iterator[Path]:
        """Give the final path: who writes there writes finished or absent."""
        yield self.folder / path

    def remove(self, path: str) -> None:
        """Remove a file or a folder, if it is there."""
        if (self.folder / path).is_dir():
            shutil.rmtree(self.folder / path)
        else:
            (self.folder / path).unlink(missing_ok=True)

    def free_bytes(self) -> int:
        """Return the free space of the file system."""
        existing = next(path for path in (self.folder, *self.folder.parents) if path.exists())
        return shutil.disk_usage(existing).free

    def hold(self, lock: str, shared: bool = False) -> AbstractContextManager[None]:
        """Hold a lock file of the folder."""
        return hold(self.folder / lock)


def open_output(out: str) -> Output:
    """Return the output that a path or URL means."""
    folder = Path(out)
    if folder.is_file():
        raise OutputInUseError(f"{folder} is a file: choose another --out")
    return LocalOutput(folder=folder)
