"""VoxCeleb1: `wav/SPEAKER/VIDEO/UTTERANCE.wav` with the official identification split."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from aalbert.common.text_files import read_lines
from aalbert.errors import InputError
from aalbert.pipeline.corpora.attachment import attach
from aalbert.pipeline.corpora.corpus import (
    Corpus,
    Skip,
    Utterance,
    is_audio,
    measure,
    require_folder,
    unreadable_folder,
    wrong_folder,
)

# Folders that may hold speakers, or one another: unpacked together, or apart as downloaded.
AUDIO_FOLDER_PATTERN = re.compile(r"wav|(vox1_)?(dev|test)(_wav)?")
SPEAKER_PATTERN = re.compile(r"id\d+")
# VoxCeleb1-O, -E and -H, as published and cleaned (with a 2). The first pattern also fits the
# second name of the split file.
TRIAL_LISTS = ("veri_test*.txt", "list_test_*.txt")
# Of several recordings of an utterance, those under the listed suffix and then these come first.
SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3")
SPLITS = {"1": "train", "2": "dev", "3": "test"}
LINE_PATTERN = re.compile(r"(?P<split>[123])\s+(?P<path>\S+/\S+/\S+)")
# The first release named speakers by celebrity and counted utterances with seven digits.
FIRST_RELEASE_PATTERN = re.compile(r"(?!id\d)[^/]+/[^/]+/\d{7}\.wav")
METADATA_COLUMNS = 4
METADATA_FIELDS = ("name", "gender", "nationality")
SPLIT_FILE = "iden_split.txt"
# The same list goes by a second name in s3prl and the AALBERT repository.
SPLIT_FILES = (SPLIT_FILE, "veri_test_class.txt")
# What tells a folder above from the corpus itself.
USUAL_NAMES = (*SPLIT_FILES, "wav", "dev/wav", "vox1_dev_wav")
EXPECTED = f"a folder with id10001/..., in it or in wav, dev/wav, test/wav, and {SPLIT_FILE}"
LICENCE = "CC BY-SA 4.0 for the lists (VoxCeleb1); the recordings belong to their owners"


def read_voxceleb1(root: Path, split_file: Path | None = None) -> Corpus:
    """Find the utterances that the split file lists below `root`.

    A listed `.wav` is also found under another audio suffix, such as `.flac` or `.WAV`; of
    several, the first that is no empty file is taken. Listed files that are missing are skipped
    with that reason. Raises `InputError` when `root` is not a VoxCeleb1 folder, a folder in it
    cannot be read, or the split file is missing or not valid.
    """
    require_folder(root, EXPECTED)
    folders = audio_folders(root)
    # The folder `wav` itself, given instead of the one with the lists.
    too_low = folders == [root] and not (split_file or split_files_in(root))
    meant = probably_meant(root) if too_low or not folders else None
    if meant or not folders:
        raise wrong_folder(root, EXPECTED, meant)
    found_split = find_split_file(root, split_file)
    listed = read_split_file(found_split)
    metadata = read_metadata(root / "vox1_meta.csv")
    recordings = find_recordings(folders, listed)
    found = [
        locate(root, recordings.get(stem_of(path), []), split, path, metadata)
        for path, split in sorted(listed.items())
    ]
    utterances = tuple(item for item in found if isinstance(item, Utterance))
    if not utterances:
        raise InputError(
            f"none of the {len(listed)} files that the split file lists is below "
            f"{', '.join(map(str, folders))}: for example {min(listed)[:200]}"
        )
    # Where the split was found above, the other lists are there too.
    trials = trial_lists_in(root) or ([] if split_file else trial_lists_in(found_split.parent))
    return Corpus(
        name="voxceleb1",
        root=root,
        fields=("video", *METADATA_FIELDS),
        utterances=utterances,
        skipped=tuple(item for item in found if isinstance(item, Skip)),
        attachments={f"trials/{path.name}": attach(path) for path in trials},
        notes=tuple(make_notes(root, found_split, metadata)),
        licence=LICENCE,
    )


def make_notes(
    root: Path, split_file: Path, metadata: Mapping[str, Mapping[str, str]]
) -> Iterator[str]:
    """Yield the notes of a corpus for the user: which split, if not the usual, what is missing."""
    if split_file != root / SPLIT_FILE:
        yield f"the split is that of {split_file}"
    if not metadata:
        yield f"no vox1_meta.csv in {root}: name, gender, nationality unknown"


def audio_folders(root: Path) -> list[Path]:
    """Return the folders that may hold speakers: the root, and `wav`, `dev` and so on below it.

    They may be in one another, as in `vox1_dev_wav/wav`. Raises `InputError` for one that cannot
    be read.
    """
    outer = [root / name for name in names_in(root) if AUDIO_FOLDER_PATTERN.fullmatch(name)]
    inner = [
        folder / name
        for folder in outer
        for name in names_in(folder)
        if AUDIO_FOLDER_PATTERN.fullmatch(name)
    ]
    holds_speakers = any(
        SPEAKER_PATTERN.fullmatch(name) and (root / name).is_dir() for name in names_in(root)
    )
    return [*([root] if holds_speakers else []), *(each for each in outer + inner if each.is_dir())]


def names_in(folder: Path) -> list[str]:
    """Return the names in a folder in order; none when there is no such folder.

    Raises `InputError` when it cannot be read, or is a link to a folder that is not there.
    """
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError) as error:
        if folder.is_symlink() and not folder.exists():
            raise InputError(
                f"the folder {folder} is a link to {os.readlink(folder)}, which is not there: "
                "mount that disk, or put the link right"
            ) from error
        return []
    except OSError as error:
        raise unreadable_folder(folder, error) from error


def find_recordings(folders: list[Path], listed: Iterable[str]) -> dict[str, list[Path]]:
    """Return the audio files of the videos of listed files, by path without suffix.

    Raises `InputError` when the folder of a speaker or video cannot be read.
    """
    videos: dict[str, set[str]] = {}
    for path in listed:
        speaker, video, _ = path.split("/")
        videos.setdefault(speaker, set()).add(video)
    recordings: dict[str, list[Path]] = {}
    for folder in folders:
        for speaker in sorted(videos.keys() & names_in(folder)):
            for video in sorted(videos[speaker] & set(names_in(folder / speaker))):
                inner = folder / speaker / video
                for name in filter(is_audio, names_in(inner)):
                    stem = stem_of(f"{speaker}/{video}/{name}")
                    recordings.setdefault(stem, []).append(inner / name)
    return recordings


def stem_of(path: str) -> str:
    """Return a path without its suffix."""
    return os.path.splitext(path)[0]


def probably_meant(root: Path) -> str | None:
    """Guess which folder or command was meant when `root` holds no audio folder."""
    for above in (root.parent, root.parent.parent):
        if split_files_in(above):
            return str(above)
    for inner in sorted(root.glob("*/")):
        if any(os.path.exists(inner / name) for name in USUAL_NAMES):
            return str(inner)
    if (root / "SPEAKERS.TXT").exists() or any(root.glob("*-clean*/")):
        return f"aalbert prepare librispeech {root}"
    return None


def split_files_in(folder: Path) -> list[Path]:
    """Return the split files in a folder, by either of their names."""
    return [folder / name for name in SPLIT_FILES if (folder / name).is_file()]


def trial_lists_in(folder: Path) -> list[Path]:
    """Return the lists of trials in a folder."""
    found = {path for pattern in TRIAL_LISTS for path in folder.glob(pattern)}
    return sorted(path for path in found if path.name not in SPLIT_FILES)


def find_split_file(root: Path, given: Path | None) -> Path:
    """Return the split file: the given one, or the official one in `root`, or in the folder above.

    Above a link is the folder that holds it, and then the one that holds what it leads to.
    Raises `InputError` when there is none, or when there are two that differ.
    """
    above = (root.absolute().parent, root.resolve().parent)
    found = next(filter(None, map(split_files_in, (root, *above))), [])
    if given is not None:
        found = [given] if given.is_file() else []
    if not found:
        raise InputError(
            f"there is no split file {given or root / SPLIT_FILE}: get {SPLIT_FILE} from the "
            f"VoxCeleb site (s3prl ships the same list as {SPLIT_FILES[1]}) and put it there, "
            "or name it with --split-file"
        )
    first, *others = found
    for other in others:
        one, two = read_split_file(first), read_split_file(other)
        if one != two:
            path = min(path for path in {**one, **two} if one.get(path) != two.get(path))
            raise InputError(
                f"{first} and {other} are different splits: {path[:200]} is in "
                f"{one.get(path, 'none')} and in {two.get(path, 'none')}; name the one to take "
                "with --split-file, or remove the other"
            )
    return first


def read_split_file(path: Path) -> dict[str, str]:
    """Read `1 id10001/VIDEO/00001.wav` lines (1 train, 2 dev, 3 test) as path -> split.

    Paths may have folders before the speaker's, which are left out, and `\\` in place of `/`.
    """
    listed: dict[str, str] = {}
    splits: dict[str, str] = {}
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        match = LINE_PATTERN.fullmatch(line.strip().replace("\\", "/"))
        if match is None:
            raise InputError(
                f"{path}:{number} is '{line.strip()[:80]}': expected "
                "'SPLIT SPEAKER/VIDEO/FILE.wav' with SPLIT 1 (train), 2 (dev) or 3 (test)"
            )
        if ".." in Path(match["path"]).parts:
            raise InputError(f"{path}:{number} names {match['path']}, which leaves the corpus")
        file = "/".join(match["path"].split("/")[-3:])
        if FIRST_RELEASE_PATTERN.fullmatch(file):
            raise InputError(first_release_message(path, number, match["path"]))
        split = SPLITS[match["split"]]
        if splits.get(stem_of(file), split) != split:
            raise InputError(f"{path}:{number} lists {match['path']} in a second split")
        if stem_of(file) not in splits:
            listed[file] = splits[stem_of(file)] = split
    if not listed:
        raise InputError(f"{path} lists no files: expected lines '1 id10001/VIDEO/00001.wav'")
    return listed


def first_release_message(path: Path, number: int, listed: str) -> str:
    """Return why the lists of the first release cannot be used, and the way out."""
    return (
        f"{path}:{number} lists {listed}: this list is of VoxCeleb1's first release, which named "
        f"speakers by celebrity, not id10001; get the {SPLIT_FILE} that lists "
        "id10001/VIDEO/00001.wav from the VoxCeleb site, or, when your recordings have the old "
        "names too, use 'aalbert prepare manifest'"
    )


def read_metadata(path: Path) -> dict[str, dict[str, str]]:
    """Read `vox1_meta.csv` (tabs as in the official file, or commas), if it exists."""
    if not path.is_file():
        return {}
    lines = read_lines(path)
    separator = "\t" if any("\t" in line for line in lines) else ","
    rows = [line.split(separator) for line in lines[1:] if line.strip()]
    if not rows or min(len(row) for row in rows) < METADATA_COLUMNS:
        raise InputError(
            f"{path} is not the metadata of VoxCeleb1: expected the columns VoxCeleb1 ID, "
            "VGGFace1 ID, Gender, Nationality, Set, separated by tabs or commas"
        )
    return {
        speaker.strip(): {
            "name": name.strip(),
            "gender": gender.strip(),
            "nationality": nationality.strip(),
        }
        for speaker, name, gender, nationality, *_ in rows
    }


def locate(
    root: Path,
    recordings: list[Path],
    split: str,
    listed: str,
    metadata: dict[str, dict[str, str]],
) -> Utterance | Skip:
    """Return the utterance of a listed file from its recordings, or why there is none."""
    measured = [
        (path, measure(path.relative_to(root).as_posix(), path))
        for path in sorted(recordings, key=lambda path: preference(path, listed))
    ]
    if not measured:
        return Skip(source=listed, reason="listed in the split file, not on disk")
    taken = (each for each in measured if isinstance(each[1], int) and each[1] > 0)
    path, size = next(taken, measured[0])
    if isinstance(size, Skip):
        return size
    speaker, video, name = listed.split("/")
    person = metadata.get(speaker, {})
    return Utterance(
        key=f"{speaker}-{video}-{Path(name).stem}",
        split=split,
        source=path.relative_to(root).as_posix(),
        path=path,
        size=size,
        speaker=speaker,
        fields={"video": video, **{name: person.get(name) for name in METADATA_FIELDS}},
    )


def preference(path: Path, listed: str) -> int:
    """Return the position of a recording among those of its utterance, by suffix."""
    order = (Path(listed).suffix.lower(), *SUFFIXES)
    suffix = path.suffix.lower()
    return order.index(suffix) if suffix in order else len(order)
