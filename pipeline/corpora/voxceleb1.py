"""VoxCeleb1: `wav/SPEAKER/VIDEO/UTTERANCE.wav` with the official identification split."""

import re
from collections.abc import Iterator
from pathlib import Path

from aalbert.common.text_files import read_lines
from aalbert.errors import InputError
from aalbert.pipeline.corpora.corpus import Corpus, Skip, Utterance, require_folder, wrong_folder

# Folders that hold the speakers: unpacked together, or dev and test apart as downloaded.
# VoxCeleb1-O, -E and -H, as published and cleaned (with a 2).
TRIAL_LISTS = ("veri_test*.txt", "list_test_*.txt")
AUDIO_FOLDERS = ("wav", "dev/wav", "test/wav", "vox1_dev_wav/wav", "vox1_test_wav/wav")
SUFFIXES = (".wav", ".flac", ".m4a", ".ogg", ".opus", ".mp3")
SPLITS = {"1": "train", "2": "dev", "3": "test"}
LINE_PATTERN = re.compile(r"(?P<split>[123])\s+(?P<path>\S+/\S+/\S+)")
# The first release named speakers by celebrity and counted utterances with seven digits.
FIRST_RELEASE_PATTERN = re.compile(r"(?!id\d)[^/]+/[^/]+/\d{7}\.wav")
METADATA_COLUMNS = 4
METADATA_FIELDS = ("name", "gender", "nationality")
SPLIT_FILE = "iden_split.txt"
EXPECTED = f"a folder with wav/id10001/..., or dev/wav and test/wav, and {SPLIT_FILE}"
LICENCE = "CC BY-SA 4.0 for the lists (VoxCeleb1); the recordings belong to their owners"


def read_voxceleb1(root: Path, split_file: Path | None = None) -> Corpus:
    """Find the utterances that the split file lists below `root`.

    A listed `.wav` is also found under another audio suffix, such as `.flac`. Listed
    files that are missing are skipped with that reason. Raises `InputError` when `root`
    is not a VoxCeleb1 folder, or the split file is missing or not valid.
    """
    require_folder(root, EXPECTED)
    folders = [root / name for name in AUDIO_FOLDERS if (root / name).is_dir()]
    if not folders:
        raise wrong_folder(root, EXPECTED, probably_meant(root))
    listed = read_split_file(find_split_file(root, split_file))
    metadata = read_metadata(root / "vox1_meta.csv")
    found = [locate(root, folders, split, path, metadata) for path, split in sorted(listed.items())]
    utterances = tuple(item for item in found if isinstance(item, Utterance))
    if not utterances:
        raise InputError(
            f"none of the {len(listed)} files that the split file lists is below "
            f"{', '.join(map(str, folders))}: for example {min(listed)}"
        )
    trials = sorted(path for pattern in TRIAL_LISTS for path in root.glob(pattern))
    return Corpus(
        name="voxceleb1",
        root=root,
        fields=("video", *METADATA_FIELDS),
        utterances=utterances,
        skipped=tuple(item for item in found if isinstance(item, Skip)),
        attachments={f"trials/{path.name}": path for path in trials},
        notes=()
        if metadata
        else (f"no vox1_meta.csv in {root}: name, gender, nationality unknown",),
        licence=LICENCE,
    )


def probably_meant(root: Path) -> str | None:
    """Guess which folder or command was meant when `root` holds no audio folder."""
    if any(root.glob("id*/*/*")):
        return str(root.parent.parent if root.parent.name in ("dev", "test") else root.parent)
    for inner in sorted(root.glob("*/")):
        if any((inner / name).is_dir() for name in AUDIO_FOLDERS):
            return str(inner)
    if (root / "SPEAKERS.TXT").exists() or any(root.glob("*-clean*/")):
        return f"aalbert prepare librispeech {root}"
    return None


def find_split_file(root: Path, split_file: Path | None) -> Path:
    """Return the split file: the given one, or the official one in `root`."""
    path = split_file or root / SPLIT_FILE
    if not path.is_file():
        raise InputError(
            f"there is no split file {path}: get {SPLIT_FILE} from the VoxCeleb site "
            "(s3prl ships the same list as veri_test_class.txt) and put it there, "
            "or name it with --split-file"
        )
    return path


def read_split_file(path: Path) -> dict[str, str]:
    """Read `1 id10001/VIDEO/00001.wav` lines (1 train, 2 dev, 3 test) as path -> split."""
    listed: dict[str, str] = {}
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        match = LINE_PATTERN.fullmatch(line.strip())
        if match is None:
            raise InputError(
                f"{path}:{number} is '{line.strip()[:80]}': expected "
                "'SPLIT SPEAKER/VIDEO/FILE.wav' with SPLIT 1 (train), 2 (dev) or 3 (test)"
            )
        if FIRST_RELEASE_PATTERN.fullmatch(match["path"]):
            raise InputError(first_release_message(path, number, match["path"]))
        if ".." in Path(match["path"]).parts:
            raise InputError(f"{path}:{number} names {match['path']}, which leaves the corpus")
        if listed.setdefault(match["path"], SPLITS[match["split"]]) != SPLITS[match["split"]]:
            raise InputError(f"{path}:{number} lists {match['path']} in a second split")
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
    folders: list[Path],
    split: str,
    listed: str,
    metadata: dict[str, dict[str, str]],
) -> Utterance | Skip:
    """Return the utterance of a listed file, or why there is none."""
    path = next(existing_files(folders, listed), None)
    if path is None:
        return Skip(source=listed, reason="listed in the split file, not on disk")
    speaker, video, name = listed.split("/")[-3:]
    person = metadata.get(speaker, {})
    return Utterance(
        key=f"{speaker}-{video}-{Path(name).stem}",
        split=split,
        source=path.relative_to(root).as_posix(),
        path=path,
        size=path.stat().st_size,
        speaker=speaker,
        fields={"video": video, **{name: person.get(name) for name in METADATA_FIELDS}},
    )


def existing_files(folders: list[Path], listed: str) -> Iterator[Path]:
    """Yield the files a listed path may mean: in each folder, under each suffix."""
    for folder in folders:
        path = folder / listed
        for suffix in dict.fromkeys((path.suffix, *SUFFIXES)):
            if path.with_suffix(suffix).is_file():
                yield path.with_suffix(suffix)
