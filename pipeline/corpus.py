"""What a corpus gives to `prepare`: its utterances, and what else travels with them."""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aalbert.errors import InputError

AUDIO_SUFFIXES = frozenset({".flac", ".wav", ".ogg", ".opus", ".mp3", ".sph", ".m4a", ".aiff"})
# macOS writes one of these beside every file on a foreign disk; they are never audio.
APPLE_DOUBLE_PREFIX = "._"


@dataclass(frozen=True, kw_only=True)
class Utterance:
    """One recording, or a part of one, and what the corpus says of it.

    The key is unique and has no dots. `source` is the name under which the recording is
    remembered: its path below the corpus's root, wherever that lies. `path` is the file
    to open and `size` the bytes of the recording; with an `offset` the recording lies
    there in the unpacked bytes of the archive `path`, whose seek index is the file `index`.
    `start` and `end`, in seconds, say which part of the recording is meant.
    """

    key: str
    split: str
    source: str
    path: Path
    size: int
    offset: int | None = None
    index: Path | None = None
    start: float = 0.0
    end: float | None = None
    speaker: str | None = None
    fields: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """Where the recording lies, in words for the user."""
        return str(self.path) if self.offset is None else f"{self.source} in {self.path}"


@dataclass(frozen=True, kw_only=True)
class Skip:
    """An input that was not taken, with the reason."""

    source: str
    reason: str

    @property
    def kind(self) -> str:
        """The reason without the figures of this one file, which follow a colon."""
        return self.reason.partition(":")[0]


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """A corpus as found on disk.

    `fields` names the text columns of its utterances; `attachments` are files to
    carry along (name in the dataset -> file); `notes` is what the user should know.
    """

    name: str
    root: Path
    fields: tuple[str, ...]
    utterances: tuple[Utterance, ...]
    skipped: tuple[Skip, ...] = ()
    attachments: Mapping[str, Path] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    licence: str = "unknown"


def find_audio(folder: Path) -> Iterator[Path]:
    """Yield the audio files below a folder in a fixed order, without macOS side files."""
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders.sort()
        for name in sorted(names):
            suffix = os.path.splitext(name)[1].lower()
            if suffix in AUDIO_SUFFIXES and not name.startswith(APPLE_DOUBLE_PREFIX):
                yield Path(parent, name)


def require_folder(folder: Path, expected: str) -> None:
    """Raise `InputError` when there is no such folder."""
    if not folder.exists():
        raise InputError(f"there is no folder {folder}: expected {expected}")
    if not folder.is_dir():
        raise InputError(f"{folder} is a file: expected {expected}")


def wrong_folder(folder: Path, expected: str, meant: str | None) -> InputError:
    """Return the error for a folder that is not the corpus: expected, found, probably meant."""
    message = f"{folder} is not what was expected. Expected: {expected}. Found: {listing(folder)}."
    return InputError(f"{message} Did you mean {meant}?" if meant else message)


def listing(folder: Path, limit: int = 6) -> str:
    """Name the first few entries of a folder."""
    names = sorted(
        entry.name + ("/" if entry.is_dir() else "")
        for entry in folder.iterdir()
        if not entry.name.startswith(".")
    )
    if not names:
        return "an empty folder"
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def first_folder(candidates: Iterable[Path]) -> Path | None:
    """Return the first of these that is a folder."""
    return next((candidate for candidate in candidates if candidate.is_dir()), None)
