import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from aalbert.errors import InputError
from aalbert.pipeline.corpora.librispeech import read_librispeech
from aalbert.pipeline.prepare.config import PrepareConfig
from aalbert.pipeline.prepare.plan import plan_fingerprint
from aalbert.shards.format.feature_settings import LogMelSettings

EXPECTED = (
    "the folder LibriSpeech that holds subsets such as train-clean-100/ and SPEAKERS.TXT, "
    "or archives such as train-clean-100.tar.gz"
)


@pytest.fixture
def folder(librispeech_folder: Path, tmp_path: Path) -> Path:
    """A copy of the corpus, to be changed."""
    return Path(shutil.copytree(librispeech_folder, tmp_path / "LibriSpeech"))


def test_utterances_are_those_in_the_transcripts_with_their_texts(
    librispeech_folder: Path,
) -> None:
    lines = [
        line.split(" ", 1)
        for path in librispeech_folder.rglob("*.trans.txt")
        for line in path.read_text("utf-8").splitlines()
    ]
    corpus = read_librispeech(librispeech_folder)
    assert {u.key: u.fields["text"] for u in corpus.utterances} == dict(lines)
    assert len(corpus.utterances) == len(lines) == 30


def test_split_speaker_and_chapter_are_the_folders(librispeech_folder: Path) -> None:
    for utterance in read_librispeech(librispeech_folder).utterances:
        split, speaker, chapter, name = utterance.path.relative_to(librispeech_folder).parts
        assert (utterance.split, utterance.speaker) == (split, speaker)
        assert (utterance.fields["chapter"], utterance.key + ".flac") == (chapter, name)
        assert utterance.size == utterance.path.stat().st_size


def test_the_gender_is_that_in_speakers_txt(folder: Path) -> None:
    (folder / "SPEAKERS.TXT").write_text(
        "; a comment | M | x\n500  | F | dev-clean | 8.0 | A | B\n501|M|dev-clean|8.0|C\n"
    )
    corpus = read_librispeech(folder, ["dev-clean"])
    assert {(u.speaker, u.fields["gender"]) for u in corpus.utterances} == {
        ("500", "F"),
        ("501", "M"),
    }
    assert corpus.notes == ()


def test_without_speakers_txt_the_gender_is_unknown_with_a_note(folder: Path) -> None:
    (folder / "SPEAKERS.TXT").unlink()
    corpus = read_librispeech(folder)
    assert {u.fields["gender"] for u in corpus.utterances} == {None}
    assert corpus.notes == (f"no SPEAKERS.TXT in {folder}: the speakers' gender is unknown",)


def test_an_utterance_without_a_transcript_has_no_text(folder: Path) -> None:
    for path in folder.rglob("500-*.trans.txt"):
        path.unlink()
    corpus = read_librispeech(folder, ["dev-clean"])
    assert {u.speaker for u in corpus.utterances if u.fields["text"] is None} == {"500"}


def test_only_named_subsets_are_read(librispeech_folder: Path) -> None:
    corpus = read_librispeech(librispeech_folder, ["dev-clean"])
    assert {u.split for u in corpus.utterances} == {"dev-clean"}


def test_a_named_subset_that_is_not_there_is_refused_with_those_that_are(
    librispeech_folder: Path,
) -> None:
    with pytest.raises(InputError) as caught:
        read_librispeech(librispeech_folder, ["dev-clean", "dev-other"])
    assert str(caught.value) == (
        f"{librispeech_folder} has no subset dev-other: it has dev-clean, train-clean-100"
    )


def test_side_files_of_macos_and_other_files_are_ignored(folder: Path) -> None:
    chapter = next(folder.glob("dev-clean/*/*"))
    audio = next(chapter.glob("*.flac"))
    (chapter / f"._{audio.name}").write_bytes(b"\x00\x05\x16\x07")
    (chapter / ".DS_Store").write_bytes(b"x")
    corpus = read_librispeech(folder)
    assert len(corpus.utterances) == 30
    assert corpus.skipped == ()


def test_audio_with_another_name_is_skipped_with_the_reason(folder: Path) -> None:
    chapter = next(folder.glob("dev-clean/*/*"))
    shutil.copy(next(chapter.glob("*.flac")), chapter / "copy of 1.flac")
    (skip,) = read_librispeech(folder).skipped
    assert skip.source.endswith("copy of 1.flac")
    assert skip.reason == "name is not SPEAKER-CHAPTER-UTTERANCE"


def test_what_the_transcripts_list_and_is_not_there_is_skipped(folder: Path) -> None:
    gone = sorted(folder.glob("dev-clean/*/*/*.flac"))[1:4]
    for path in gone:
        path.unlink()
    corpus = read_librispeech(folder)
    assert {(skip.source, skip.reason) for skip in corpus.skipped} == {
        (path.relative_to(folder).as_posix(), "listed in a transcript, not here") for path in gone
    }
    assert len(corpus.utterances) == 27


def test_audio_at_any_depth_is_found_with_its_text(folder: Path) -> None:
    before = {each.key: dict(each.fields) for each in read_librispeech(folder).utterances}
    chapter = next(folder.glob("dev-clean/500/*"))
    for number, path in enumerate(sorted(chapter.glob("*.flac"))):
        place = (folder / "dev-clean", folder / "dev-clean/a/b/c", chapter.parent)[number % 3]
        place.mkdir(parents=True, exist_ok=True)
        path.rename(place / path.name)
    corpus = read_librispeech(folder)
    assert {each.key: dict(each.fields) for each in corpus.utterances} == before
    assert corpus.skipped == ()


def test_a_folder_that_cannot_be_read_is_an_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked, scan = str(folder / "dev-clean/500"), os.scandir

    def scandir(path: str) -> Iterator[os.DirEntry[str]]:
        if path == locked:
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(InputError) as caught:
        read_librispeech(folder)
    assert str(caught.value) == (
        f"the folder {locked} cannot be read (Permission denied): change its permissions, or move "
        "it elsewhere"
    )


def test_speakers_and_chapters_that_are_listed_without_audio_are_noted(folder: Path) -> None:
    (folder / "SPEAKERS.TXT").write_text(
        "500 | F | dev-clean | 8.0 | A\n501|M|dev-clean|8.0|C\n777 | M | dev-clean | 8.0 | D\n"
        "778 | M | dev-other | 8.0 | E\n"
    )
    (folder / "CHAPTERS.TXT").write_text(
        ";ID | READER | MINUTES | SUBSET\n5000 | 500 | 1.2 | dev-clean | 9\n"
        "5009 | 500 | 1.2 | dev-clean | 9\n5019 | 501 | 1.2 | dev-clean | 9\n"
    )
    assert read_librispeech(folder, ["dev-clean"]).notes == (
        "SPEAKERS.TXT: speakers of dev-clean that are listed and have no audio here: 1",
        "CHAPTERS.TXT: chapters of dev-clean that are listed and have no audio here: 2",
    )


def test_the_plan_does_not_depend_on_where_the_corpus_lies(folder: Path, tmp_path: Path) -> None:
    chapter = next(folder.glob("dev-clean/*/*"))
    shutil.copy(next(chapter.glob("*.flac")), chapter / "copy of 1.flac")
    config = PrepareConfig(features=(LogMelSettings(),))
    here = plan_fingerprint(read_librispeech(folder), config)
    moved = folder.rename(tmp_path / "elsewhere")
    assert plan_fingerprint(read_librispeech(moved), config) == here


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_librispeech(tmp_path / "x")
    assert str(caught.value) == f"there is no folder {tmp_path / 'x'}: expected {EXPECTED}"


def test_a_file_instead_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").touch()
    with pytest.raises(InputError) as caught:
        read_librispeech(tmp_path / "a.tar.gz")
    assert str(caught.value) == f"{tmp_path / 'a.tar.gz'} is a file: expected {EXPECTED}"


def test_an_empty_folder_is_refused_without_a_guess(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_librispeech(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path} is not what was expected. Expected: {EXPECTED}. Found: an empty folder."
    )


@pytest.mark.parametrize(
    ("given", "found", "meant"),
    [
        ("", "LibriSpeech/", "{root}"),
        ("LibriSpeech/dev-clean", "500/, 501/", "{root} with --subset dev-clean"),
        ("LibriSpeech/dev-clean/500", "5000/, 5001/", "{root}"),
    ],
    ids=["too high", "a subset", "a speaker"],
)
def test_a_wrong_level_is_answered_with_the_right_one(
    folder: Path, given: str, found: str, meant: str
) -> None:
    wrong = folder.parent / given
    with pytest.raises(InputError) as caught:
        read_librispeech(wrong)
    assert str(caught.value) == (
        f"{wrong} is not what was expected. Expected: {EXPECTED}. Found: {found}. "
        f"Did you mean {meant.format(root=folder)}?"
    )


def test_voxceleb1_given_as_librispeech_is_answered_with_the_other_command(tmp_path: Path) -> None:
    (tmp_path / "wav" / "id10001").mkdir(parents=True)
    (tmp_path / "iden_split.txt").touch()
    with pytest.raises(InputError) as caught:
        read_librispeech(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path} is not what was expected. Expected: {EXPECTED}. "
        f"Found: iden_split.txt, wav/. Did you mean aalbert prepare voxceleb1 {tmp_path}?"
    )


def test_libritts_is_answered_with_the_command_that_reads_it(folder: Path) -> None:
    chapter = next(folder.glob("dev-clean/*/*"))
    shutil.copy(next(chapter.glob("*.flac")), chapter / "84_121123_000007_000001.wav")
    with pytest.raises(InputError) as caught:
        read_librispeech(folder)
    assert str(caught.value) == (
        f"{folder} is LibriTTS: use 'aalbert prepare folder {folder} --split-level 1 "
        "--speaker-level 2'"
    )


def test_audio_that_must_be_converted_is_skipped_with_the_command(folder: Path) -> None:
    path = next(folder.glob("dev-clean/*/*/*.flac"))
    path.rename(path.with_suffix(".m4a"))
    (skip,) = read_librispeech(folder).skipped
    name = path.relative_to(folder).with_suffix("")
    assert skip.source == f"{name}.m4a"
    assert skip.reason == (
        "is .m4a audio, which must be converted with ffmpeg first: "
        f"ffmpeg -i {name}.m4a -ac 1 -ar 16000 {name}.flac"
    )


def test_a_folder_above_that_of_the_archives_is_answered_with_theirs(tmp_path: Path) -> None:
    (tmp_path / "archives").mkdir()
    (tmp_path / "archives/dev-clean.tar.gz").touch()
    with pytest.raises(InputError, match=f"Did you mean {tmp_path}/archives"):
        read_librispeech(tmp_path)


def test_the_genuine_subset_is_found_completely(shared: Path) -> None:
    corpus = read_librispeech(shared / "data/LibriSpeech")
    splits = [utterance.split for utterance in corpus.utterances]
    assert {split: splits.count(split) for split in splits} == {
        "train-clean-100": 515,
        "test-clean": 4,
        "dev-other": 1,
    }
    assert len({u.speaker for u in corpus.utterances if u.split == "train-clean-100"}) == 251
    assert {u.fields["gender"] for u in corpus.utterances} == {"F", "M"}
    assert corpus.skipped == ()
