"""Any tree of audio files, with speaker and split from its folders or a regular expression."""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from aalbert.errors import ConfigError, InputError, require
from aalbert.pipeline.corpora.corpus import (
    AUDIO_SUFFIXES,
    Corpus,
    Skip,
    Utterance,
    measure,
    require_folder,
    scan_audio,
)
from aalbert.pipeline.corpora.names import check_splits, key_of, taken_fields

EXPECTED = "a folder with audio files, at any depth"
DEFAULT_SPLIT = "all"
OWN_GROUPS = ("speaker", "split")


@dataclass(frozen=True, kw_only=True)
class FolderOptions:
    """Where a path below the root says who speaks, and to which split the file belongs.

    Level 1 is the first folder below the root, -1 the folder that holds the file. The
    pattern is searched for in the path (`/` between folders, suffix included); its groups
    `speaker` and `split` mean these, every other named group becomes a text column.
    Options that contradict each other or mean nothing raise `ConfigError`.
    """

    speaker_level: int | None = None
    speaker_pattern: str | None = None
    split_level: int | None = None

    def __post_init__(self) -> None:
        groups = self.pattern.groupindex if self.pattern else {}
        for name, level in (("speaker", self.speaker_level), ("split", self.split_level)):
            require(
                level != 0,
                f"--{name}-level 0 is no folder: 1 is the first below the root, "
                "-1 the one that holds the file",
            )
            require(
                level is None or name not in groups,
                f"--{name}-level {level} and the group '{name}' of --speaker-pattern "
                f"both say the {name}: leave one out",
            )
        require(
            self.pattern is None or bool(groups),
            f"--speaker-pattern '{self.speaker_pattern}' has no named group: mark what is the "
            "speaker, as in (?P<speaker>[^/]+)/",
        )
        taken = taken_fields(self.fields)
        require(
            not taken,
            f"--speaker-pattern has the group '{', '.join(taken)}', which the index of a dataset "
            "needs for itself: give the group another name",
        )

    @cached_property
    def pattern(self) -> re.Pattern[str] | None:
        """The compiled pattern."""
        if self.speaker_pattern is None:
            return None
        try:
            return re.compile(self.speaker_pattern)
        except re.error as error:
            raise ConfigError(
                f"--speaker-pattern '{self.speaker_pattern}' is not a regular expression: {error}"
            ) from error

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """The groups of the pattern that become text columns."""
        groups = self.pattern.groupindex if self.pattern else {}
        return tuple(name for name in groups if name not in OWN_GROUPS)

    @property
    def names_speakers(self) -> bool:
        """Whether anything says who speaks."""
        groups = self.pattern.groupindex if self.pattern else {}
        return self.speaker_level is not None or "speaker" in groups


@dataclass(frozen=True, kw_only=True)
class PathLabels:
    """What a path says of its recording."""

    split: str
    speaker: str | None
    fields: Mapping[str, str | None]


def read_folder(root: Path, options: FolderOptions) -> Corpus:
    """Find the audio files below `root`.

    Raises `InputError` when there is no such folder, none of its files can be taken, or
    a split would have a name that no folder should have.
    """
    require_folder(root, EXPECTED)
    found = list(read_files(root, options))
    utterances = tuple(item for item in found if isinstance(item, Utterance))
    skipped = tuple(item for item in found if isinstance(item, Skip))
    if not utterances:
        raise InputError(nothing_found(root, skipped))
    check_splits({utterance.split: utterance.source for utterance in reversed(utterances)})
    return Corpus(
        name="folder",
        root=root,
        fields=options.fields,
        utterances=utterances,
        skipped=skipped,
        notes=()
        if options.names_speakers
        else ("the speakers are unknown: say where they are with --speaker-level",),
    )


def read_files(root: Path, options: FolderOptions) -> Iterator[Utterance | Skip]:
    """Yield an utterance for every audio file below `root`, or why it cannot be one."""
    prefix = os.path.join(root, "")
    for path in scan_audio(root):
        source = path.removeprefix(prefix)
        if not is_unicode(source):
            yield Skip(source=printable(source), reason="name is not UTF-8")
            continue
        labels = read_labels(source, options)
        size = measure(source, path)
        if isinstance(labels, str):
            yield Skip(source=source, reason=labels)
        elif isinstance(size, Skip):
            yield size
        else:
            yield Utterance(
                key=key_of(source),
                split=labels.split,
                source=source,
                path=Path(path),
                size=size,
                speaker=labels.speaker,
                fields=labels.fields,
            )


def read_labels(source: str, options: FolderOptions) -> PathLabels | str:
    """Return what the path of a file below the root says, or the reason why it does not."""
    groups: dict[str, str | None] = {}
    if options.pattern:
        match = options.pattern.search(source)
        if match is None:
            return "path does not match --speaker-pattern"
        groups = match.groupdict()
    for name, level in (("speaker", options.speaker_level), ("split", options.split_level)):
        if level is not None:
            folders = source.split("/")[:-1]
            if abs(level) > len(folders):
                return f"lies less deep than --{name}-level {level}"
            groups[name] = folders[level - 1 if level > 0 else level]
    split = groups.get("split", DEFAULT_SPLIT)
    if not split:
        return "the group 'split' of --speaker-pattern is empty"
    return PathLabels(
        split=split,
        speaker=groups.get("speaker") or None,
        fields={name: groups[name] for name in options.fields},
    )


def is_unicode(name: str) -> bool:
    """Say whether a name is text: Python keeps other bytes of a name as lone surrogates."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def printable(name: str) -> str:
    """Return a name with the bytes that are no text as `\\xNN`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def nothing_found(root: Path, skipped: tuple[Skip, ...]) -> str:
    """Say why a folder gave no utterance."""
    if not skipped:
        return f"no audio files below {root}: expected files in {', '.join(sorted(AUDIO_SUFFIXES))}"
    return (
        f"none of the {len(skipped)} audio files below {root} can be taken; "
        f"for example {skipped[0].source}: {skipped[0].reason}"
    )
