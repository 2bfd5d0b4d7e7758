"""LibriSpeech: `SUBSET/SPEAKER/CHAPTER/SPEAKER-CHAPTER-UTTERANCE.flac` (Panayotov et al. 2015)."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from aalbert.common.files import cache_folder
from aalbert.errors import InputError
from aalbert.pipeline.corpora.archive import index_path
from aalbert.pipeline.corpora.corpus import (
    APPLE_DOUBLE_PREFIX,
    Corpus,
    Skip,
    Utterance,
    find_audio,
    require_folder,
    wrong_folder,
)
from aalbert.pipeline.librispeech_archives import archived_genders, list_archives, read_archive
from aalbert.pipeline.librispeech_format import (
    ARCHIVE_SUFFIX,
    SPEAKERS_NAME,
    SUBSET_PATTERN,
    TRANSCRIPT_SUFFIX,
    as_utterance,
    parse_genders,
    parse_transcripts,
)

EXPECTED = (
    "the folder LibriSpeech that holds subsets such as train-clean-100/ and SPEAKERS.TXT, "
    "or archives such as train-clean-100.tar.gz"
)
LICENCE = "CC BY 4.0 (LibriSpeech, openslr.org/12)"


def read_librispeech(root: Path, subsets: Sequence[str] = (), cache: Path | None = None) -> Corpus:
    """Find the utterances of LibriSpeech below `root`.

    `root` holds unpacked subsets, archives such as `dev-clean.tar.gz`, or both, or is such
    an archive. All subsets found are taken unless some are named. Archives are indexed in
    the folder `cache` (the user's by default), which must stay until their audio has been
    read. Raises `InputError`
    when `root` is not LibriSpeech or lacks a named subset, or an archive is damaged.
    """
    cache = cache or cache_folder() / "archives"
    chosen = choose_subsets(root, find_subsets(root), subsets)
    listings = list_archives(chosen, cache)
    genders: dict[str, str] = {}
    for listing in listings.values():
        genders |= archived_genders(listing)
    genders |= read_genders(root / SPEAKERS_NAME)
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
    """Yield what the user should know of a corpus."""
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
    """Return the name of the subset that a file holds, judged by the file's name."""
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
    """Say whether this is the folder of an unpacked subset, judged by its name."""
    return SUBSET_PATTERN.fullmatch(path.name) is not None and path.is_dir()


def choose_subsets(root: Path, found: dict[str, Path], subsets: Sequence[str]) -> dict[str, Path]:
    """Return those of the subsets found that were asked for."""
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
        for path in find_audio(chapter):
            source = PurePosixPath(path.relative_to(folder.parent).as_posix())
            if not path.exists():
                reason = "is a link to a file that is not there"
                yield Skip(source=str(source), reason=reason)
                continue
            yield as_utterance(source, path, path.stat().st_size, genders, texts)


def read_genders(path: Path) -> dict[str, str]:
    """Read the gender (F or M) of every speaker from SPEAKERS.TXT, if it is there."""
    return parse_genders(path.read_text("utf-8")) if path.is_file() else {}


def read_transcripts(chapter: Path) -> dict[str, str]:
    """Read the texts of a chapter by key."""
    texts: dict[str, str] = {}
    for path in sorted(chapter.glob(f"*{TRANSCRIPT_SUFFIX}")):
        if not path.name.startswith(APPLE_DOUBLE_PREFIX):
            texts |= parse_transcripts(path.read_text("utf-8"))
    return texts
