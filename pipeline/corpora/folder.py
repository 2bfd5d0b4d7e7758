"""Any tree of audio files, with speaker and split from folders or a regular expression."""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from aalbert.common.text import is_unicode
from aalbert.errors import ConfigError, InputError, require
from aalbert.pipeline.corpora.corpus import (
    AUDIO_SUFFIXES,
    Corpus,
    Skip,
    Utterance,
    measure,
    needs_conversion,
    require_folder,
    scan_files,
)
from aalbert.pipeline.corpora.names import check_splits, key_of, taken_fields

EXPECTED = "a folder with audio files, at any depth"
DEFAULT_SPLIT = "all"
OWN_GROUPS = ("speaker", "split")


@dataclass(frozen=True, kw_only=True)
class FolderOptions:
    """The parts of a path below the root that give the speaker and the split of a file.

    Level 1 is the first folder below the root, -1 the folder that holds the file. The
    pattern is searched for in the path (`/` between folders, suffix included); its groups
    `speaker` and `split` give these, every other named group becomes a text column.
    Options that contradict each other or have no meaning raise `ConfigError`.
    """

    speaker_level: int | None = None
    speaker_pattern: str | None = None
    split_level: int | None = None

    def __post_init__(self) -> None:
        for name, level in (("speaker", self.speaker_level), ("split", self.split_level)):
            require(
                level != 0,
                f"--{name}-level 0 is no folder: 1 is the first below the root, "
                "-1 the one that holds the file",
            )
            require(
                level is None or name not in self.groups,
                f"--{name}-level {level} and the group '{name}' of --speaker-pattern "
                f"both say the {name}: leave one out",
            )
        require(
            self.pattern is None or bool(self.groups),
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
    def groups(self) -> tuple[str, ...]:
        """The named groups of the pattern."""
        return tuple(self.pattern.groupindex) if self.pattern else ()

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """The groups of the pattern that become text columns."""
        return tuple(name for name in self.groups if name not in OWN_GROUPS)


@dataclass(frozen=True, kw_only=True)
class PathLabels:
    """The labels of a recording, from its path."""

    split: str
    speaker: str | None
    fields: Mapping[str, str | None]


def read_folder(root: Path, options: FolderOptions) -> Corpus:
    """Find the audio files below `root`.

    Raises `InputError` when there is no such folder, none of its files can be taken, or
    the name of a split is not valid for a folder.
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
        if options.speaker_level is not None or "speaker" in options.groups
        else ("the speakers are unknown: say where they are with --speaker-level",),
    )


def read_files(root: Path, options: FolderOptions) -> Iterator[Utterance | Skip]:
    """Yield an utterance for every audio file below `root`, or why it cannot be one.

    A file that must be converted first, and has been, is represented by the file beside it.
    """
    prefix = os.path.join(root, "")
    paths = list(scan_files(root))
    usable = {os.path.splitext(path)[0] for path in paths if needs_conversion(path) is None}
    for path in paths:
        source = path.removeprefix(prefix)
        if needs_conversion(path) and os.path.splitext(path)[0] in usable:
            continue
        if not is_unicode(source):
            escaped = os.fsencode(source).decode("utf-8", "backslashreplace")
            yield Skip(source=escaped, reason="name is not UTF-8")
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
    """Return the labels in the path of a file below the root, or why there are none."""
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


def nothing_found(root: Path, skipped: tuple[Skip, ...]) -> str:
    """Return why a folder has no utterances."""
    if not skipped:
        return f"no audio files below {root}: expected files in {', '.join(sorted(AUDIO_SUFFIXES))}"
    return (
        f"none of the {len(skipped)} audio files below {root} can be taken; "
        f"for example {skipped[0].source}: {skipped[0].reason}"
    )
