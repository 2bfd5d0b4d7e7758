"""LibriSpeech: `SUBSET/SPEAKER/CHAPTER/SPEAKER-CHAPTER-UTTERANCE.flac` (Panayotov et al. 2015).

It is read from its folders or from its official archives.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from aalbert.common.files import cache_folder, is_side_file
from aalbert.common.text_files import read_text, text_lines
from aalbert.errors import InputError
from aalbert.pipeline.corpora.archive import Listing, index_path, list_members
from aalbert.pipeline.corpora.corpus import (
    Corpus,
    Skip,
    Utterance,
    is_audio,
    measure,
    needs_conversion,
    require_folder,
    scan_files,
    wrong_folder,
)

EXPECTED = (
    "the folder LibriSpeech that holds subsets such as train-clean-100/ and SPEAKERS.TXT, "
    "or archives such as train-clean-100.tar.gz"
)
LICENCE = "CC BY 4.0 (LibriSpeech, openslr.org/12)"
# The seven official subsets, and those of Mini LibriSpeech.
SUBSET_PATTERN = re.compile(r"(train|dev|test)-(clean|other)(-\d+)?")
# LibriTTS has the same folders, and other names in them.
TTS_PATTERN = re.compile(r"\d+_\d+_\d+_\d+")
KEY_PATTERN = re.compile(r"(?P<speaker>\d+)-(?P<chapter>\d+)-\d+")
ARCHIVE_SUFFIX = ".tar.gz"
SPEAKERS_NAME = "SPEAKERS.TXT"
CHAPTERS_NAME = "CHAPTERS.TXT"
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
    kept = (SPEAKERS_NAME, CHAPTERS_NAME, TRANSCRIPT_SUFFIX)
    listings = {
        path: list_members(path, index_path(cache, path), kept)
        for path in chosen.values()
        if not path.is_dir()
    }
    speakers = read_columns(SPEAKERS_NAME, root, listings.values())
    chapters = read_columns(CHAPTERS_NAME, root, listings.values())
    genders = {columns[0]: columns[1] for columns in speakers if len(columns) > 1}
    found: list[Utterance | Skip] = []
    for subset, path in chosen.items():
        if path in listings:
            index = index_path(cache, path)
            found += read_archive(subset, path, index, listings[path], genders)
        else:
            found += read_subset(path, genders)
    if any(TTS_PATTERN.fullmatch(PurePosixPath(item.source).stem) for item in found):
        raise InputError(
            f"{root} is LibriTTS: use 'aalbert prepare folder {root} --split-level 1 "
            "--speaker-level 2'"
        )
    utterances = tuple(item for item in found if isinstance(item, Utterance))
    return Corpus(
        name="librispeech",
        root=root,
        fields=("gender", "chapter", "text"),
        utterances=utterances,
        skipped=tuple(item for item in found if isinstance(item, Skip)),
        notes=tuple(make_notes(root, chosen, speakers, chapters, utterances)),
        licence=LICENCE,
    )


def make_notes(
    root: Path,
    chosen: Mapping[str, Path],
    speakers: Sequence[Sequence[str]],
    chapters: Sequence[Sequence[str]],
    utterances: Sequence[Utterance],
) -> Iterator[str]:
    """Yield the notes of a corpus for the user; `speakers` and `chapters` are its lists."""
    yield from notes_of_places(root, chosen)
    if not speakers:
        yield f"no {SPEAKERS_NAME} in {root}: the speakers' gender is unknown"
    listed = {(row[2], row[0]) for row in speakers if len(row) > 2 and row[2] in chosen}
    here = {(each.split, each.speaker) for each in utterances}
    yield from notes_of_absent(f"{SPEAKERS_NAME}: speakers", listed, here)
    listed = {(row[3], row[0]) for row in chapters if len(row) > 3 and row[3] in chosen}
    here = {(each.split, each.fields["chapter"]) for each in utterances}
    yield from notes_of_absent(f"{CHAPTERS_NAME}: chapters", listed, here)


def notes_of_places(root: Path, chosen: Mapping[str, Path]) -> Iterator[str]:
    """Yield where the subsets are read, where that is not the only possibility."""
    folders = [subset for subset, path in chosen.items() if path.is_dir()]
    for subset, path in chosen.items():
        archive = root / (subset + ARCHIVE_SUFFIX)
        if subset not in folders and folders:
            yield f"{subset} is read from the archive {path.name}"
        elif subset in folders and archive.is_file():
            yield f"{subset} is read from its folder, not from {archive.name}"


def notes_of_absent(
    what: str, listed: set[tuple[str, str]], here: set[tuple[str, str | None]]
) -> Iterator[str]:
    """Yield how many of the listed (subset, number) have no audio, by subset."""
    absent = Counter(subset for subset, _ in listed - here)
    for subset, count in sorted(absent.items()):
        yield f"{what} of {subset} that are listed and have no audio here: {count}"


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
    """Yield the utterances of an unpacked subset, and the files that cannot be one.

    Audio is found at any depth, since its name says all; what the transcripts list and is not
    there is a skip.
    """
    paths = [
        Path(path) for path in scan_files(folder, lambda name: is_audio(name) or is_text(name))
    ]
    sources = {PurePosixPath(path.relative_to(folder.parent).as_posix()): path for path in paths}
    transcripts = {
        source.parent: parse_transcripts(read_text(path))
        for source, path in sources.items()
        if is_text(source.name)
    }
    texts = {key: text for chapter in transcripts.values() for key, text in chapter.items()}
    audio = [source for source in sources if not is_text(source.name)]
    for source in audio:
        size = measure(str(source), sources[source])
        if isinstance(size, Skip):
            yield size
        else:
            yield as_utterance(source, sources[source], size, genders, texts)
    yield from find_missing(transcripts, audio)


def find_missing(
    transcripts: Mapping[PurePosixPath, Iterable[str]], audio: Iterable[PurePosixPath]
) -> Iterator[Skip]:
    """Yield the utterances that the transcripts of chapters list and that have no audio."""
    present = {source.stem for source in audio}
    for chapter, keys in transcripts.items():
        for key in keys:
            if key not in present:
                yield Skip(
                    source=f"{chapter}/{key}.flac", reason="listed in a transcript, not here"
                )


def is_text(name: str) -> bool:
    """Return whether a file's name is that of a chapter's transcripts."""
    return name.endswith(TRANSCRIPT_SUFFIX) and not is_side_file(name)


def read_columns(name: str, root: Path, listings: Iterable[Listing]) -> list[list[str]]:
    """Read the columns, divided by `|`, of a list in archives and in `root`."""
    texts = [
        text
        for listing in listings
        for member, text in listing.texts.items()
        if str(below_top(member)) == name
    ]
    if (path := root / name).is_file():
        texts.append(read_text(path))
    return [
        [column.strip() for column in line.split("|")]
        for text in texts
        for line in text_lines(text)
        if line.strip() and not line.startswith(";")
    ]


def as_utterance(
    source: PurePosixPath,
    path: Path,
    size: int,
    genders: Mapping[str, str],
    texts: Mapping[str, str],
) -> Utterance | Skip:
    """Return the utterance `SUBSET/SPEAKER/CHAPTER/NAME`, or a skip for any other name."""
    if (reason := needs_conversion(str(source))) is not None:
        return Skip(source=str(source), reason=reason)
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


def parse_transcripts(text: str) -> dict[str, str]:
    """Turn `KEY WORDS...` lines into a text for every key."""
    lines = (line.split(maxsplit=1) for line in text_lines(text) if line.strip())
    return {key: " ".join(words) for key, *words in lines}


def below_top(name: str) -> PurePosixPath:
    """Return the path of a member of an archive below the folder LibriSpeech."""
    path = PurePosixPath(name)
    return path.relative_to(TOP_FOLDER) if path.parts[:1] == (TOP_FOLDER,) else path


def read_archive(
    subset: str, archive: Path, index: Path, listing: Listing, genders: Mapping[str, str]
) -> Iterator[Utterance | Skip]:
    """Yield what `read_subset` yields for the unpacked archive, and its unsafe members."""
    for skip in listing.skipped:
        yield replace(skip, source=str(below_top(skip.source)))
    transcripts = {
        below_top(name).parent: parse_transcripts(text)
        for name, text in sorted(listing.texts.items())
        if is_text(PurePosixPath(name).name)
    }
    texts = {key: text for chapter in transcripts.values() for key, text in chapter.items()}
    audio = {
        source: member
        for source, member in ((below_top(member.name), member) for member in listing.members)
        if source.parts[:1] == (subset,) and is_audio(source.name)
    }
    if not audio:
        raise InputError(
            f"{archive} holds no audio of {subset}: name an archive after the subset in it"
        )
    for source in sorted(audio, key=walk_order):
        member = audio[source]
        item = as_utterance(source, archive, member.size, genders, texts)
        if isinstance(item, Utterance):
            item = replace(item, offset=member.offset, index=index)
        yield item
    yield from find_missing(transcripts, audio)


def walk_order(source: PurePosixPath) -> list[tuple[bool, str]]:
    """Return a key for the order of `read_subset`: files before folders."""
    *folders, name = source.parts
    return [*((True, folder) for folder in folders), (False, name)]
