"""A corpus as `prepare` reads it: its utterances, and the files and notes that go with them."""

import os
import shlex
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from aalbert.common.files import is_side_file
from aalbert.common.json_files import read_records
from aalbert.common.redaction import redact, redact_url
from aalbert.errors import InputError, TooManySkippedError
from aalbert.pipeline.corpora.attachment import Attachment

DECODED_SUFFIXES = frozenset(
    {".flac", ".wav", ".ogg", ".oga", ".opus", ".mp3", ".sph", ".au", ".caf", ".w64", ".rf64"}
    | {".aiff", ".aif", ".aifc"}
)
# Files that cannot be decoded are found too, so that they are reported as skipped.
AUDIO_SUFFIXES = DECODED_SUFFIXES | {".m4a", ".aac", ".wma", ".amr", ".g722", ".webm"}
# Typical bytes per second of 16 kHz speech; it affects only the size of shards.
BYTES_PER_SECOND = {".wav": 32_000, ".flac": 17_000, ".sph": 32_000, ".aiff": 32_000}
COMPRESSED_BYTES_PER_SECOND = 8_000
# No audio takes less. A table may give a part an end far beyond its recording.
FEWEST_BYTES_PER_SECOND = 1


@dataclass(frozen=True, kw_only=True)
class Utterance:
    """One recording, or a part of one, and its labels in the corpus.

    The key is unique and has no dots. `source` is the name of the recording that the index
    stores: its path below the corpus's root, without the root. `path` is the file to open and
    `size` the bytes of the recording; with an `offset`, the recording is there in that file, or,
    with an `index`, in the unpacked bytes of the archive `path`, whose seek index that is.
    `start` and `end`, in seconds, are the part of the recording that is used.
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
        """The location of the recording, for messages."""
        return str(self.path) if self.offset is None else f"{self.source} in {self.path}"


@dataclass(frozen=True, kw_only=True)
class Skip:
    """An input that was skipped, with the reason.

    A table may name URLs, which are no recordings here: their secrets are hidden.
    """

    source: str
    reason: str

    def __post_init__(self) -> None:
        """Hide secrets, since skipped inputs are listed in files and messages."""
        object.__setattr__(self, "source", redact_url(self.source))
        object.__setattr__(self, "reason", redact(self.reason))

    @property
    def kind(self) -> str:
        """The reason without the details of this one file, which follow a colon."""
        return self.reason.partition(":")[0]


def check_skipped(
    *,
    taken: int,
    skipped: int,
    max_skipped: float,
    find_skips: Callable[[], Iterable[Skip]],
    advice: str,
) -> None:
    """Raise `TooManySkippedError` when too many of all inputs were skipped; see `are_too_many`.

    `find_skips` returns what was skipped; it is called for the error alone, which ends with
    `advice`.
    """
    inputs = taken + skipped
    if not are_too_many(skipped, inputs, max_skipped):
        return
    [(reason, count)] = Counter(skip.kind for skip in find_skips()).most_common(1) or [("", 0)]
    raise TooManySkippedError(
        f"{skipped} of {inputs} inputs were skipped, more than --max-skipped {max_skipped:g} "
        f"allows; most often ({count}): {reason}. {advice}"
    )


def read_skips(path: Path) -> list[Skip]:
    """Return what a file lists as skipped, a `reason` a line."""
    lines = read_records(dict[str, str], path, "delete the output and make it again")
    return [Skip(source="", reason=line.get("reason", "")) for line in lines]


def are_too_many(skipped: int, inputs: int, max_skipped: float) -> bool:
    """Return whether more than the share `max_skipped` of all inputs was skipped.

    Unless that share is 0, one input always may be.
    """
    return skipped > max(1 if max_skipped else 0, max_skipped * inputs)


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """A corpus as found on disk.

    `fields` names the text columns of its utterances; `attachments` are files to
    copy (name in the dataset -> file); `notes` are remarks for the user.
    """

    name: str
    root: Path
    fields: tuple[str, ...]
    utterances: tuple[Utterance, ...]
    skipped: tuple[Skip, ...] = ()
    attachments: Mapping[str, Attachment] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    licence: str = "unknown"


def is_audio(name: str) -> bool:
    """Return whether a file's name is that of an audio file."""
    suffix = os.path.splitext(name)[1].lower()
    return suffix in AUDIO_SUFFIXES and not is_side_file(name)


def scan_files(folder: Path, is_wanted: Callable[[str], bool] = is_audio) -> Iterator[str]:
    """Yield the paths of the files below a folder whose names are wanted, in a fixed order.

    Links to folders are followed unless they lead to a folder that contains them, whose
    files are found anyway. Raises `InputError` for a folder that cannot be read.
    """
    waiting: list[tuple[str, frozenset[tuple[int, int]]]] = [(os.fspath(folder), frozenset())]
    while waiting:
        path, above = waiting.pop()
        try:
            status = os.stat(path)
            with os.scandir(path) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            raise unreadable_folder(path, error) from error
        identity = (status.st_dev, status.st_ino)
        if identity in above:
            continue
        folders = []
        for entry in entries:
            if leads_to_folder(entry):
                folders.append(entry.path)
            elif is_wanted(entry.name):
                yield entry.path
        waiting += [(inner, above | {identity}) for inner in reversed(folders)]


def unreadable_folder(path: str | Path, error: OSError) -> InputError:
    """Return the error for a folder that the system does not list."""
    return InputError(
        f"the folder {path} cannot be read ({error.strerror}): "
        "change its permissions, or move it elsewhere"
    )


def leads_to_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder or a link to one; a link to itself is not."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def measure(source: str, path: str | Path) -> int | Skip:
    """Return the size of a file in bytes, or why it cannot be a recording."""
    try:
        status = os.stat(path)
    except OSError as error:
        if os.path.islink(path):
            return Skip(source=source, reason="is a link to a file that is not there")
        return Skip(source=source, reason=f"cannot be read: {error.strerror}")
    if not stat.S_ISREG(status.st_mode):
        return Skip(source=source, reason="is not a file but a folder or a device")
    reason = needs_conversion(source)
    return status.st_size if reason is None else Skip(source=source, reason=reason)


def needs_conversion(source: str) -> str | None:
    """Return why a file of this name cannot be decoded, and the way out; None when it can be."""
    stem, suffix = os.path.splitext(source)
    if suffix.lower() not in AUDIO_SUFFIXES - DECODED_SUFFIXES:
        return None
    command = f"ffmpeg -i {shlex.quote(source)} -ac 1 -ar 16000 {shlex.quote(stem + '.flac')}"
    return f"is {suffix} audio, which must be converted with ffmpeg first: {command}"


def require_folder(folder: Path, expected: str) -> None:
    """Raise `InputError` when there is no such folder."""
    if not folder.exists():
        raise InputError(f"there is no folder {folder}: expected {expected}")
    if not folder.is_dir():
        raise InputError(f"{folder} is a file: expected {expected}")


def wrong_folder(folder: Path, expected: str, meant: str | None) -> InputError:
    """Return the error for a folder that is not the corpus: expected, found, probably meant."""
    message = (
        f"{folder} is not what was expected. Expected: {expected}. Found: {first_entries(folder)}."
    )
    return InputError(f"{message} Did you mean {meant}?" if meant else message)


def first_entries(folder: Path, limit: int = 6) -> str:
    """Return the names of the first few entries of a folder."""
    names = sorted(
        entry.name + ("/" if entry.is_dir() else "")
        for entry in folder.iterdir()
        if not entry.name.startswith(".")
    )
    if not names:
        return "an empty folder"
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def estimated_seconds(utterance: Utterance) -> float:
    """Return the duration of an utterance: its own, or an estimate from the size of its file."""
    # The suffix of the source: `path` may be an archive.
    suffix = PurePosixPath(utterance.source).suffix.lower()
    rate = BYTES_PER_SECOND.get(suffix, COMPRESSED_BYTES_PER_SECOND)
    size = max(1, utterance.size)
    end = size / rate if utterance.end is None else utterance.end
    end = min(end, size / FEWEST_BYTES_PER_SECOND)
    return max(1 / rate, end - utterance.start)
