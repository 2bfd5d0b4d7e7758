"""LibriSpeech: `SUBSET/SPEAKER/CHAPTER/SPEAKER-CHAPTER-UTTERANCE.flac` (Panayotov et al. 2015)."""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from aalbert.errors import InputError
from aalbert.pipeline.corpus import (
    Corpus,
    Skip,
    Utterance,
    find_audio,
    listing,
    require_folder,
    wrong_folder,
)

# The seven official subsets, and those of Mini LibriSpeech.
SUBSET_PATTERN = re.compile(r"(train|dev|test)-(clean|other)(-\d+)?")
KEY_PATTERN = re.compile(r"(?P<speaker>\d+)-(?P<chapter>\d+)-\d+")
EXPECTED = "the folder LibriSpeech that holds subsets such as train-clean-100/ and SPEAKERS.TXT"
LICENCE = "CC BY 4.0 (LibriSpeech, openslr.org/12)"


def read_librispeech(root: Path, subsets: Sequence[str] = ()) -> Corpus:
    """Find the utterances of LibriSpeech below `root`.

    All subsets found are taken unless some are named. Raises `InputError` when `root`
    is not a LibriSpeech folder or lacks a named subset.
    """
    require_folder(root, EXPECTED)
    folders = choose_subsets(root, subsets)
    genders = read_genders(root / "SPEAKERS.TXT")
    found = [item for folder in folders for item in read_subset(folder, genders)]
    return Corpus(
        name="librispeech",
        root=root,
        fields=("gender", "chapter", "text"),
        utterances=tuple(item for item in found if isinstance(item, Utterance)),
        skipped=tuple(item for item in found if isinstance(item, Skip)),
        notes=() if genders else (f"no SPEAKERS.TXT in {root}: the speakers' gender is unknown",),
        licence=LICENCE,
    )


def choose_subsets(root: Path, subsets: Sequence[str]) -> list[Path]:
    """Return the folders of the subsets to read, sorted by name."""
    found = sorted(path for path in root.iterdir() if SUBSET_PATTERN.fullmatch(path.name))
    if not found:
        raise wrong_folder(root, EXPECTED, probably_meant(root))
    missing = sorted(set(subsets) - {path.name for path in found})
    if missing:
        raise InputError(
            f"{root} has no subset {', '.join(missing)}: it has "
            f"{', '.join(path.name for path in found)}"
        )
    return [path for path in found if not subsets or path.name in subsets]


def probably_meant(root: Path) -> str | None:
    """Guess which folder or command was meant when `root` holds no subset."""
    if SUBSET_PATTERN.fullmatch(root.name):
        return f"{root.parent} with --subset {root.name}"
    for parent in root.resolve().parents:
        if SUBSET_PATTERN.fullmatch(parent.name):
            return str(parent.parent)
    for inner in sorted(root.glob("*/")):
        if any(SUBSET_PATTERN.fullmatch(path.name) for path in inner.glob("*/")):
            return str(inner)
    if (root / "iden_split.txt").exists() or any(root.glob("wav/id*")):
        return f"aalbert prepare voxceleb1 {root}"
    if any(root.glob("*.tar.gz")):
        return f"to unpack {listing(root)} first (tar xzf)"
    return None


def read_subset(folder: Path, genders: dict[str, str]) -> Iterator[Utterance | Skip]:
    """Yield the utterances of one subset, and the files that cannot be one."""
    for chapter in sorted(path for path in folder.glob("*/*") if path.is_dir()):
        texts = read_transcripts(chapter.glob("*.trans.txt"))
        for path in find_audio(chapter):
            source = path.relative_to(folder.parent).as_posix()
            match = KEY_PATTERN.fullmatch(path.stem)
            if match is None:
                yield Skip(source=source, reason="name is not SPEAKER-CHAPTER-UTTERANCE")
                continue
            if not path.exists():
                yield Skip(source=source, reason="is a link to a file that is not there")
                continue
            yield Utterance(
                key=path.stem,
                split=folder.name,
                source=source,
                path=path,
                size=path.stat().st_size,
                speaker=match["speaker"],
                fields={
                    "gender": genders.get(match["speaker"]),
                    "chapter": match["chapter"],
                    "text": texts.get(path.stem),
                },
            )


def read_genders(path: Path) -> dict[str, str]:
    """Read the gender (F or M) of every speaker from SPEAKERS.TXT, if it is there."""
    if not path.is_file():
        return {}
    genders = {}
    for line in path.read_text("utf-8").splitlines():
        columns = [column.strip() for column in line.split("|")]
        if not line.startswith(";") and len(columns) >= 2:
            genders[columns[0]] = columns[1]
    return genders


def read_transcripts(paths: Iterable[Path]) -> dict[str, str]:
    """Read `KEY WORDS...` lines into a text for every key."""
    lines = [line for path in paths for line in path.read_text("utf-8").splitlines()]
    return {key: text for key, _, text in (line.partition(" ") for line in lines)}
