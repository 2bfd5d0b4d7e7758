import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile

from aalbert.errors import InputError
from aalbert.pipeline.corpora.corpus import Corpus, Skip
from aalbert.pipeline.corpora.synthesis import write_voxceleb1
from aalbert.pipeline.corpora.voxceleb1 import read_voxceleb1

EXPECTED = "a folder with id10001/..., in it or in wav, dev/wav, test/wav, and iden_split.txt"
SPLITS = {"1": "train", "2": "dev", "3": "test"}


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("voxceleb1")
    write_voxceleb1(
        root,
        speakers=3,
        videos_per_speaker=2,
        utterances_per_video=2,
        seed=4,
        seconds=(0.2, 0.3),
    )
    return root


@pytest.fixture
def folder(source: Path, tmp_path: Path) -> Path:
    """A copy of the corpus, to be changed."""
    return Path(shutil.copytree(source, tmp_path / "VoxCeleb1"))


def listed(folder: Path) -> list[list[str]]:
    return [line.split() for line in (folder / "iden_split.txt").read_text().splitlines()]


def test_utterances_are_those_of_the_split_file(source: Path) -> None:
    corpus = read_voxceleb1(source)
    expected = {
        (SPLITS[part], *path.removesuffix(".wav").split("/")) for part, path in listed(source)
    }
    found = {(u.split, u.speaker, u.fields["video"], u.path.stem) for u in corpus.utterances}
    assert found == expected
    assert len(corpus.utterances) == 12
    assert corpus.skipped == ()


def test_keys_are_unique_and_hold_no_dot(source: Path) -> None:
    keys = [u.key for u in read_voxceleb1(source).utterances]
    assert len(set(keys)) == len(keys)
    assert not any("." in key or "/" in key for key in keys)


@pytest.mark.parametrize(
    ("development", "test"),
    [("dev/wav", "test/wav"), ("vox1_dev_wav/wav", "vox1_test_wav/wav"), ("wav", "test/wav")],
)
def test_development_and_test_speakers_may_be_in_separate_folders(
    folder: Path, source: Path, development: str, test: str
) -> None:
    moved = folder / "moved"
    (folder / "wav").rename(moved)
    for number, speaker in enumerate(sorted(moved.iterdir())):
        target = folder / (test if number == 2 else development)
        target.mkdir(parents=True, exist_ok=True)
        speaker.rename(target / speaker.name)
    corpus = read_voxceleb1(folder)
    assert {(u.key, u.split) for u in corpus.utterances} == {
        (u.key, u.split) for u in read_voxceleb1(source).utterances
    }
    assert corpus.skipped == ()


def test_a_listed_wav_is_found_as_flac(folder: Path, source: Path) -> None:
    for path in sorted(folder.rglob("*.wav")):
        soundfile.write(path.with_suffix(".flac"), *soundfile.read(path))
        path.unlink()
    corpus = read_voxceleb1(folder)
    assert {u.path.suffix for u in corpus.utterances} == {".flac"}
    assert [u.key for u in corpus.utterances] == [u.key for u in read_voxceleb1(source).utterances]


def test_side_files_of_macos_are_ignored(folder: Path) -> None:
    for path in sorted(folder.rglob("*.wav")):
        path.with_name(f"._{path.name}").write_bytes(b"\x00\x05\x16\x07")
    corpus = read_voxceleb1(folder)
    assert (len(corpus.utterances), corpus.skipped) == (12, ())


def test_listed_files_that_are_not_there_are_skipped_with_that_reason(folder: Path) -> None:
    gone = listed(folder)[3][1]
    (folder / "wav" / gone).unlink()
    corpus = read_voxceleb1(folder)
    assert len(corpus.utterances) == 11
    assert [(skip.source, skip.reason) for skip in corpus.skipped] == [
        (gone, "listed in the split file, not on disk")
    ]


def test_when_no_listed_file_is_there_the_folders_and_an_example_are_named(folder: Path) -> None:
    shutil.rmtree(folder / "wav")
    (folder / "wav").mkdir()
    with pytest.raises(InputError) as caught:
        read_voxceleb1(folder)
    first = min(path for _, path in listed(folder))
    assert str(caught.value) == (
        f"none of the 12 files that the split file lists is below {folder / 'wav'}: "
        f"for example {first}"
    )


def test_the_split_file_may_be_elsewhere(folder: Path, tmp_path: Path) -> None:
    elsewhere = (folder / "iden_split.txt").rename(tmp_path / "veri_test_class.txt")
    assert len(read_voxceleb1(folder, elsewhere).utterances) == 12


def test_a_missing_split_file_is_named_with_where_to_get_it(folder: Path) -> None:
    (folder / "iden_split.txt").unlink()
    with pytest.raises(InputError) as caught:
        read_voxceleb1(folder)
    assert str(caught.value) == (
        f"there is no split file {folder / 'iden_split.txt'}: get iden_split.txt from the "
        "VoxCeleb site (s3prl ships the same list as veri_test_class.txt) and put it there, "
        "or name it with --split-file"
    )


@pytest.mark.parametrize(
    "line", ["4 id10001/a/00001.wav", "id10001/a/00001.wav", "1 00001.wav", "1,id1/a/1.wav"]
)
def test_a_malformed_line_of_the_split_file_is_shown_with_its_number(
    folder: Path, line: str
) -> None:
    path = folder / "iden_split.txt"
    path.write_text(f"1 id10001/a/00001.wav\n\n{line}\n")
    with pytest.raises(InputError) as caught:
        read_voxceleb1(folder)
    assert str(caught.value) == (
        f"{path}:3 is '{line}': expected 'SPLIT SPEAKER/VIDEO/FILE.wav' "
        "with SPLIT 1 (train), 2 (dev) or 3 (test)"
    )


@pytest.mark.parametrize(
    "listed", ["A.J._Buckley/1zcIwhmdeo4/0000001.wav", "Zoë_Saldana/J9lHsKG98U8/0000015.wav"]
)
def test_a_list_of_the_first_release_is_refused_with_the_way_out(folder: Path, listed: str) -> None:
    path = folder / "iden_split.txt"
    path.write_text(f"3 id10001/a/00001.wav\n1 {listed}\n", "utf-8")
    with pytest.raises(InputError) as caught:
        read_voxceleb1(folder)
    assert str(caught.value) == (
        f"{path}:2 lists {listed}: this list is of VoxCeleb1's first release, which named speakers "
        "by celebrity, not id10001; get the iden_split.txt that lists id10001/VIDEO/00001.wav from "
        "the VoxCeleb site, or, when your recordings have the old names too, use "
        "'aalbert prepare manifest'"
    )


def test_a_split_file_with_windows_line_ends_is_read(folder: Path) -> None:
    path = folder / "iden_split.txt"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert len(read_voxceleb1(folder).utterances) == 12


def test_an_empty_split_file_is_refused(folder: Path) -> None:
    (folder / "iden_split.txt").write_text("\n")
    with pytest.raises(InputError) as caught:
        read_voxceleb1(folder)
    assert str(caught.value) == (
        f"{folder / 'iden_split.txt'} lists no files: expected lines '1 id10001/VIDEO/00001.wav'"
    )


def test_a_file_listed_in_two_splits_is_refused(folder: Path) -> None:
    with (folder / "iden_split.txt").open("a") as stream:
        part, path = listed(folder)[0]
        stream.write(f"{3 if part == '1' else 1} {path}\n")
    with pytest.raises(InputError, match=path):
        read_voxceleb1(folder)


def test_a_listed_path_that_leaves_the_corpus_is_refused(folder: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "00001.wav", [0.0] * 8000, 16_000)
    with (folder / "iden_split.txt").open("a") as stream:
        stream.write("1 ../../00001.wav\n")
    with pytest.raises(InputError, match=r"\.\./\.\./00001\.wav"):
        read_voxceleb1(folder)


@pytest.mark.parametrize("separator", ["\t", ","], ids=["tabs", "commas"])
def test_name_gender_and_nationality_come_from_the_metadata(folder: Path, separator: str) -> None:
    rows = [
        ("VoxCeleb1 ID", "VGGFace1 ID", "Gender", "Nationality", "Set"),
        ("id10001", "A.J._Buckley", "m", "Ireland", "dev"),
        ("id10002", "Ayça_Öz", "f", "Turkey", "dev"),
    ]
    (folder / "vox1_meta.csv").write_text("\n".join(map(separator.join, rows)) + "\n", "utf-8")
    corpus = read_voxceleb1(folder)
    known = {
        u.speaker: [u.fields[n] for n in ("name", "gender", "nationality")]
        for u in corpus.utterances
    }
    assert known == {
        "id10001": ["A.J._Buckley", "m", "Ireland"],
        "id10002": ["Ayça_Öz", "f", "Turkey"],
        "id10003": [None, None, None],
    }


def test_without_metadata_there_is_a_note(folder: Path) -> None:
    (folder / "vox1_meta.csv").unlink()
    corpus = read_voxceleb1(folder)
    assert corpus.notes == (f"no vox1_meta.csv in {folder}: name, gender, nationality unknown",)


@pytest.mark.parametrize("content", ["", "ID,Name\nid10001,Somebody\n"], ids=["empty", "short"])
def test_damaged_metadata_is_named(folder: Path, content: str) -> None:
    (folder / "vox1_meta.csv").write_text(content)
    with pytest.raises(InputError, match="vox1_meta.csv"):
        read_voxceleb1(folder)


def test_trial_lists_are_copied(folder: Path) -> None:
    for name in ("veri_test2.txt", "list_test_hard2.txt"):
        (folder / name).write_text("1 a/b/c.wav a/b/d.wav\n")
    found = read_voxceleb1(folder).attachments
    assert {name: each.path for name, each in found.items()} == {
        "trials/list_test_hard2.txt": folder / "list_test_hard2.txt",
        "trials/veri_test.txt": folder / "veri_test.txt",
        "trials/veri_test2.txt": folder / "veri_test2.txt",
    }


@pytest.mark.parametrize(
    ("given", "found", "meant"),
    [
        ("", "VoxCeleb1/", "{root}"),
        ("VoxCeleb1/wav", "id10001/, id10002/, id10003/", "{root}"),
    ],
    ids=["too high", "too low"],
)
def test_a_wrong_level_is_answered_with_the_right_one(
    folder: Path, given: str, found: str, meant: str
) -> None:
    wrong = folder.parent / given
    with pytest.raises(InputError) as caught:
        read_voxceleb1(wrong)
    assert str(caught.value) == (
        f"{wrong} is not what was expected. Expected: {EXPECTED}. Found: {found}. "
        f"Did you mean {meant.format(root=folder)}?"
    )


def test_librispeech_given_as_voxceleb1_is_answered_with_the_other_command(
    librispeech_folder: Path,
) -> None:
    with pytest.raises(InputError) as caught:
        read_voxceleb1(librispeech_folder)
    assert str(caught.value) == (
        f"{librispeech_folder} is not what was expected. Expected: {EXPECTED}. "
        "Found: SPEAKERS.TXT, alignments.txt, dev-clean/, phones.json, train-clean-100/. "
        f"Did you mean aalbert prepare librispeech {librispeech_folder}?"
    )


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("voxceleb1_wild", {"train": 199, "dev": 55, "test": 92}),
        ("voxceleb1_studio", {"train": 288, "dev": 72, "test": 120}),
    ],
)
def test_the_genuine_recordings_are_all_found(
    shared: Path, name: str, counts: dict[str, int]
) -> None:
    corpus = read_voxceleb1(shared / "data" / name)
    splits = [utterance.split for utterance in corpus.utterances]
    assert {split: splits.count(split) for split in splits} == counts
    assert corpus.skipped == ()


def with_sources(corpus: Corpus) -> dict[str, str]:
    return {u.key: u.source for u in corpus.utterances}


@pytest.mark.parametrize(
    "place",
    ["", "dev", "test", "vox1_dev_wav", "vox1_test", "wav/wav", "vox1_dev_wav/wav", "dev/dev"],
)
def test_speakers_are_found_wherever_people_unpack_them(
    folder: Path, source: Path, place: str
) -> None:
    moved = folder / "moved"
    (folder / "wav").rename(moved)
    (folder / place).mkdir(parents=True, exist_ok=True)
    for speaker in sorted(moved.iterdir()):
        speaker.rename(folder / place / speaker.name)
    corpus = read_voxceleb1(folder)
    assert with_sources(corpus) == {
        key: str(Path(place, *Path(path).parts[1:]))
        for key, path in with_sources(read_voxceleb1(source)).items()
    }
    assert corpus.skipped == ()


def test_a_folder_of_speakers_and_a_list_elsewhere_are_enough(folder: Path, source: Path) -> None:
    corpus = read_voxceleb1(folder / "wav", folder / "iden_split.txt")
    assert with_sources(corpus).keys() == with_sources(read_voxceleb1(source)).keys()


@pytest.mark.parametrize(
    "change",
    [
        lambda path: f"wav/{path}",
        lambda path: f"vox1_dev_wav/wav/{path}",
        lambda path: f"/scratch/somebody/{path}",
        lambda path: path.replace("/", "\\"),
        lambda path: path.replace(".wav", ".flac"),
    ],
    ids=["prefix", "long prefix", "absolute", "backslashes", "another suffix"],
)
def test_lists_name_files_in_many_ways(
    folder: Path, source: Path, change: Callable[[str], str]
) -> None:
    lines = [f"{part} {change(path)}" for part, path in listed(folder)]
    (folder / "iden_split.txt").write_text("\n".join(lines))
    corpus = read_voxceleb1(folder)
    assert corpus.utterances == tuple(
        replace(u, path=folder / u.source) for u in read_voxceleb1(source).utterances
    )


def test_a_file_listed_twice_in_two_ways_is_one(folder: Path) -> None:
    part, path = listed(folder)[0]
    with (folder / "iden_split.txt").open("a") as stream:
        stream.write(f"{part} wav/{path}\n{part} {path.replace('.wav', '.flac')}\n")
    assert len(read_voxceleb1(folder).utterances) == 12


def first_recording(folder: Path) -> Path:
    return folder / "wav" / min(path for _, path in listed(folder))


def test_a_recording_is_taken_before_an_empty_file(folder: Path) -> None:
    path = first_recording(folder)
    flac = path.with_suffix(".flac")
    soundfile.write(flac, *soundfile.read(path))
    assert read_voxceleb1(folder).utterances[0].path == path
    path.write_bytes(b"")
    assert read_voxceleb1(folder).utterances[0].path == flac
    flac.write_bytes(b"")
    taken = read_voxceleb1(folder).utterances[0]
    assert (taken.path, taken.size) == (path, 0)


@pytest.mark.parametrize("suffix", [".WAV", ".Flac", ".OGG", ".aiff"])
def test_suffixes_may_be_in_capitals(folder: Path, suffix: str) -> None:
    path = first_recording(folder)
    path.rename(path.with_suffix(suffix))
    corpus = read_voxceleb1(folder)
    assert corpus.utterances[0].path == path.with_suffix(suffix)
    assert corpus.skipped == ()


def test_a_broken_link_is_called_one(folder: Path) -> None:
    path = first_recording(folder)
    path.unlink()
    path.symlink_to("/nowhere/00001.wav")
    assert read_voxceleb1(folder).skipped == (
        Skip(
            source=path.relative_to(folder).as_posix(),
            reason="is a link to a file that is not there",
        ),
    )


@pytest.mark.parametrize("level", ["wav", "speaker", "video"])
def test_a_link_to_a_folder_that_is_not_there_is_an_error(folder: Path, level: str) -> None:
    video = first_recording(folder).parent
    path = {"wav": folder / "wav", "speaker": video.parent, "video": video}[level]
    shutil.rmtree(path)
    path.symlink_to("/nowhere/else")
    with pytest.raises(InputError) as caught:
        read_voxceleb1(folder)
    assert str(caught.value) == (
        f"the folder {path} is a link to /nowhere/else, which is not there: mount that disk, "
        "or put the link right"
    )


def test_a_folder_that_cannot_be_read_is_an_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    speaker, listdir = first_recording(folder).parents[1], os.listdir

    def refusing(path: Path) -> list[str]:
        if Path(path) == speaker:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return listdir(path)

    # The tests may run as root, who may read every folder.
    monkeypatch.setattr(os, "listdir", refusing)
    with pytest.raises(InputError) as caught:
        read_voxceleb1(folder)
    assert str(caught.value) == (
        f"the folder {speaker} cannot be read (Permission denied): change its permissions, "
        "or move it elsewhere"
    )


def test_recordings_in_aac_are_skipped_with_the_way_to_convert_them(folder: Path) -> None:
    path = first_recording(folder)
    path = path.rename(path.with_suffix(".m4a"))
    name = path.relative_to(folder).as_posix()
    assert read_voxceleb1(folder).skipped == (
        Skip(
            source=name,
            reason="is .m4a audio, which must be converted with ffmpeg first: "
            f"ffmpeg -i {name} -ac 1 -ar 16000 {name.removesuffix('.m4a')}.flac",
        ),
    )
    soundfile.write(path.with_suffix(".flac"), [0.1] * 8000, 16_000)
    corpus = read_voxceleb1(folder)
    assert corpus.skipped == () and corpus.utterances[0].path == path.with_suffix(".flac")
