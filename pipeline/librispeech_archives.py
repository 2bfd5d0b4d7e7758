"""LibriSpeech in its official archives, read where it lies."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from aalbert.errors import InputError
from aalbert.pipeline.corpora.archive import index_path, list_members
from aalbert.pipeline.corpora.corpus import AUDIO_SUFFIXES, Skip, Utterance
from aalbert.pipeline.librispeech_format import (
    SPEAKERS_NAME,
    TRANSCRIPT_SUFFIX,
    as_utterance,
    parse_genders,
    parse_transcripts,
)
from aalbert.pipeline.tar_stream import Listing

# The folder at the top of the official archives, which is the root of an unpacked corpus.
TOP_FOLDER = "LibriSpeech"


def list_archives(chosen: Mapping[str, Path], cache: Path) -> dict[Path, Listing]:
    """List every archive among the chosen subsets."""
    archives = [path for path in chosen.values() if not path.is_dir()]
    kept = (SPEAKERS_NAME, TRANSCRIPT_SUFFIX)
    return {path: list_members(path, index_path(cache, path), kept) for path in archives}


def below_top(name: str) -> PurePosixPath:
    """Return where a member of an archive lies below the folder LibriSpeech."""
    path = PurePosixPath(name)
    return path.relative_to(TOP_FOLDER) if path.parts[:1] == (TOP_FOLDER,) else path


def archived_genders(listing: Listing) -> dict[str, str]:
    """Return the genders in the archive's own SPEAKERS.TXT, if it is there."""
    texts = {str(below_top(name)): text for name, text in listing.texts.items()}
    return parse_genders(texts.get(SPEAKERS_NAME, ""))


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
    """Yield what `read_subset` would if the archive were unpacked, and what is unsafe in it."""
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
    """Order as `read_subset` does: by chapter, and in a folder the files before the folders."""
    *folders, name = source.parts[3:]
    return source.parts[:3], [*((True, folder) for folder in folders), (False, name)]
