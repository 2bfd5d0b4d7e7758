"""LibriSpeech: `SUBSET/SPEAKER/CHAPTER/SPEAKER-CHAPTER-UTTERANCE.flac` (Panayotov et al. 2015).

It is read from its folders or from its official archives.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from aalbert.common.files import cache_folder
from aalbert.common.text_files import read_text
from aalbert.errors import InputError
from aalbert.pipeline.corpora.archive import Listing, index_path, list_members
from aalbert.pipeline.corpora.corpus import (
    APPLE_DOUBLE_PREFIX,
    AUDIO_SUFFIXES,
    Corpus,
    Skip,
    Utterance,
    require_folder,
    scan_audio,
    wrong_folder,
)

EXPECTED = (
    "the folder LibriSpeech that holds subsets such as train-clean-100/ and SPEAKERS.TXT, "
    "or archives such as train-clean-100.tar.gz"
)
LICENCE = "CC BY 4.0 (LibriSpeech, openslr.org/12)"
# The seven official subsets, and those of Mini LibriSpeech.
SUBSET_PATTERN = re.compile(r"(train|dev|test)-(clean|other)(-\d+)?")
KEY_PATTERN = re.compile(r"(?P<speaker>\d+)-(?P<chapter>\d+)-\d+")
ARCHIVE_SUFFIX = ".tar.gz"
SPEAKERS_NAME = "SPEAKERS.TXT"
TRANSCRIPT_SUFFIX = ".trans.txt"
# The folder at the top of the official archives, which is the root of an unpacked corpus.
TOP_FOLDER = "LibriSpeech"


def read_librispeech(root: Path, subsets: Sequence[str] = (), cache: Path | None = None) -> Corpus:
    """Find the utterances of LibriSpeech below `root`.

    `root` holds unpacked subsets, archives such as `dev-clean.tar.gz`, or both, or is such
    an archive. All subsets found are used unless some are named. Archives are indexed in
    the folder `cache` (the user's by default), which must stay until their audio has been
    read. Raises `InputError` when `root` is not LibriSpeech or lacks a named subset, or an
    archive is damaged.
    """
    cache = cache or cache_folder() / "archives"
    chosen = choose_subsets(root, find_subsets(root), subsets)
    kept = (SPEAKERS_NAME, TRANSCRIPT_SUFFIX)
    listings = {
        path: list_members(path, index_path(cache, path), kept)
        for path in chosen.values()
        if not path.is_dir()
    }
    genders = read_genders(root, listings.values())
    found: list[Utterance | Skip] = []
    for subset, path in chosen.items():
        if path in listings:
            index = index_path(cache, path)
            found += read_archive(subset, path, index, listings[path], genders)
        else:
            found += read_subset(path, genders)
    return Corpus(
        name="librispeech",
        root=root,
        fields=("gender", "chapter", "text"),
        utterances=tuple(item for item in found if isinstance(item, Utterance)),
        skipped=tuple(item for item in found if isinstance(item, Skip)),
        notes=tuple(make_notes(root, chosen, genders)),
        licence=LICENCE,
    )


def make_notes(root: Path, chosen: Mapping[str, Path], genders: Mapping[str, str]) -> Iterator[str]:
    """Yield the notes of a corpus for the user."""
    folders = [subset for subset, path in chosen.items() if path.is_dir()]
    for subset, path in chosen.items():
        archive = root / (subset + ARCHIVE_SUFFIX)
        if subset not in folders and folders:
            yield f"{subset} is read from the archive {path.name}"
        elif subset in folders and archive.is_file():
            yield f"{subset} is read from its folder, not from {archive.name}"
    if not genders:
        yield f"no {SPEAKERS_NAME} in {root}: the speakers' gender is unknown"


def archived_subset(path: Path) -> str | None:
    """Return the subset in an archive, by the name of the file; None for another file."""
    subset = path.name.removesuffix(ARCHIVE_SUFFIX)
    is_one = subset != path.name and SUBSET_PATTERN.fullmatch(subset) and path.is_file()
    return subset if is_one else None


def find_subsets(root: Path) -> dict[str, Path]:
    """Return the folder, or else the archive, of every subset by name, in the names' order."""
    if subset := archived_subset(root):
        return {subset: root}
    require_folder(root, EXPECTED)
    archives = {subset: path for path in root.iterdir() if (subset := archived_subset(path))}
    folders = {path.name: path for path in root.iterdir() if is_subset_folder(path)}
    if not (archives or folders):
        raise wrong_folder(root, EXPECTED, probably_meant(root))
    return dict(sorted({**archives, **folders}.items()))


def is_subset_folder(path: Path) -> bool:
    """Return whether this is the folder of an unpacked subset, by its name."""
    return SUBSET_PATTERN.fullmatch(path.name) is not None and path.is_dir()


def choose_subsets(root: Path, found: dict[str, Path], subsets: Sequence[str]) -> dict[str, Path]:
    """Return the requested subsets among those found; `InputError` when one is missing."""
    if missing := sorted(set(subsets) - set(found)):
        raise InputError(f"{root} has no subset {', '.join(missing)}: it has {', '.join(found)}")
    return {subset: path for subset, path in found.items() if not subsets or subset in subsets}


def probably_meant(root: Path) -> str | None:
    """Guess which folder or command was meant when `root` holds no subset."""
    if SUBSET_PATTERN.fullmatch(root.name):
        return f"{root.parent} with --subset {root.name}"
    for parent in root.resolve().parents:
        if SUBSET_PATTERN.fullmatch(parent.name):
            return str(parent.parent)
    for inner in sorted(root.glob("*/")):
        if any(is_subset_folder(path) or archived_subset(path) for path in inner.glob("*")):
            return str(inner)
    if (root / "iden_split.txt").exists() or any(root.glob("wav/id*")):
        return f"aalbert prepare voxceleb1 {root}"
    return None


def read_subset(folder: Path, genders: Mapping[str, str]) -> Iterator[Utterance | Skip]:
    """Yield the utterances of an unpacked subset, and the files that cannot be one."""
    for chapter in sorted(path for path in folder.glob("*/*") if path.is_dir()):
        texts = read_transcripts(chapter)
        for path in map(Path, scan_audio(chapter)):
            source = PurePosixPath(path.relative_to(folder.parent).as_posix())
            if not path.exists():
                reason = "is a link to a file that is not there"
                yield Skip(source=str(source), reason=reason)
                continue
            yield as_utterance(source, path, path.stat().st_size, genders, texts)


def read_genders(root: Path, listings: Iterable[Listing]) -> dict[str, str]:
    """Read the gender (F or M) of every speaker from SPEAKERS.TXT in archives and in `root`."""
    genders: dict[str, str] = {}
    for listing in listings:
        texts = {str(below_top(name)): text for name, text in listing.texts.items()}
        genders |= parse_genders(texts.get(SPEAKERS_NAME, ""))
    if (path := root / SPEAKERS_NAME).is_file():
        genders |= parse_genders(read_text(path))
    return genders


def read_transcripts(chapter: Path) -> dict[str, str]:
    """Read the texts of a chapter by key."""
    texts: dict[str, str] = {}
    for path in sorted(chapter.glob(f"*{TRANSCRIPT_SUFFIX}")):
        if not path.name.startswith(APPLE_DOUBLE_PREFIX):
            texts |= parse_transcripts(read_text(path))
    return texts


def as_utterance(
    source: PurePosixPath,
    path: Path,
    size: int,
    genders: Mapping[str, str],
    texts: Mapping[str, str],
) -> Utterance | Skip:
    """Return the utterance `SUBSET/SPEAKER/CHAPTER/NAME`, or a skip for any other name."""
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


def below_top(name: str) -> PurePosixPath:
    """Return the path of a member of an archive below the folder LibriSpeech."""
    path = PurePosixPath(name)
    return path.relative_to(TOP_FOLDER) if path.parts[:1] == (TOP_FOLDER,) else path


def archived_transcripts(listing: Listing) -> dict[PurePosixPath, dict[str, str]]:
    """Return the texts of every chapter by key."""
    transcripts: dict[PurePosixPath, dict[str, str]] = {}
    for name, text in sorted(listing.texts.items()):
        if name.endswith(TRANSCRIPT_SUFFIX):
            chapter = below_top(name).parent
            transcripts[chapter] = transcripts.get(chapter, {}) | parse_transcripts(text)
    return transcripts


def read_archive(
    subset: str, archive: Path, index: Path, listing: Listing, genders: Mapping[str, str]
) -> Iterator[Utterance | Skip]:
    """Yield what `read_subset` yields for the unpacked archive, and its unsafe members."""
    for skip in listing.skipped:
        yield replace(skip, source=str(below_top(skip.source)))
    transcripts = archived_transcripts(listing)
    audio = {
        source: member
        for source, member in ((below_top(member.name), member) for member in listing.members)
        if len(source.parts) >= 4
        and source.parts[0] == subset
        and source.suffix.lower() in AUDIO_SUFFIXES
    }
    if not audio:
        raise InputError(
            f"{archive} holds no audio of {subset}: name an archive after the subset in it"
        )
    for source in sorted(audio, key=walk_order):
        member = audio[source]
        texts = transcripts.get(PurePosixPath(*source.parts[:3]), {})
        item = as_utterance(source, archive, member.size, genders, texts)
        if isinstance(item, Utterance):
            item = replace(item, offset=member.offset, index=index)
        yield item


def walk_order(source: PurePosixPath) -> tuple[tuple[str, ...], list[tuple[bool, str]]]:
    """Return a key for the order of `read_subset`: by chapter, and files before folders."""
    *folders, name = source.parts[3:]
    return source.parts[:3], [*((True, folder) for folder in folders), (False, name)]
