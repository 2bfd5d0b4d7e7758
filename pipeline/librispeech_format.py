"""What LibriSpeech's names and texts mean, wherever they lie (Panayotov et al. 2015)."""

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from aalbert.pipeline.corpora.corpus import Skip, Utterance

# The seven official subsets, and those of Mini LibriSpeech.
SUBSET_PATTERN = re.compile(r"(train|dev|test)-(clean|other)(-\d+)?")
KEY_PATTERN = re.compile(r"(?P<speaker>\d+)-(?P<chapter>\d+)-\d+")
ARCHIVE_SUFFIX = ".tar.gz"
SPEAKERS_NAME = "SPEAKERS.TXT"
TRANSCRIPT_SUFFIX = ".trans.txt"


def as_utterance(
    source: PurePosixPath,
    path: Path,
    size: int,
    genders: Mapping[str, str],
    texts: Mapping[str, str],
) -> Utterance | Skip:
    """Return the utterance `SUBSET/SPEAKER/CHAPTER/NAME`, unless the name is not that of one."""
    match = KEY_PATTERN.fullmatch(source.stem)
    if match is None:
        return Skip(source=str(source), reason="name is not SPEAKER-CHAPTER-UTTERANCE")
    return Utterance(
        key=source.stem,
        split=source.parts[0],
        source=str(source),
        path=path,
        size=size,
        speaker=match["speaker"],
        fields={
            "gender": genders.get(match["speaker"]),
            "chapter": match["chapter"],
            "text": texts.get(source.stem),
        },
    )


def parse_genders(text: str) -> dict[str, str]:
    """Return the gender of every speaker in the text of SPEAKERS.TXT."""
    genders = {}
    for line in text.splitlines():
        columns = [column.strip() for column in line.split("|")]
        if not line.startswith(";") and len(columns) >= 2:
            genders[columns[0]] = columns[1]
    return genders


def parse_transcripts(text: str) -> dict[str, str]:
    """Turn `KEY WORDS...` lines into a text for every key."""
    return {key: words for key, _, words in (line.partition(" ") for line in text.splitlines())}
