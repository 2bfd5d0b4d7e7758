"""The identification split goes by two names, beside the audio or one folder above."""

import shutil
from pathlib import Path

import pytest

from aalbert.cli import main
from aalbert.errors import InputError
from aalbert.pipeline.corpora.synthesis import write_voxceleb1
from aalbert.pipeline.corpora.voxceleb1 import read_voxceleb1
from aalbert.shards import Dataset

OFFICIAL, OTHER = "iden_split.txt", "veri_test_class.txt"
SPLITS = {"1": "train", "2": "dev", "3": "test"}
SIZES = {"speakers": 3, "videos_per_speaker": 2, "utterances_per_video": 2}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A corpus with the split under its official name."""
    root = tmp_path / "here" / "VoxCeleb1"
    write_voxceleb1(root, **SIZES, seed=4, seconds=(0.2, 0.3))
    return root


def splits_of(folder: Path) -> dict[str, str]:
    return {each.key: each.split for each in read_voxceleb1(folder).utterances}


@pytest.mark.parametrize("place", [".", ".."], ids=["beside the audio", "in the folder above"])
def test_the_name_of_s3prl_and_of_the_aalbert_repository_is_found(folder: Path, place: str) -> None:
    official = splits_of(folder)
    moved = (folder / OFFICIAL).rename((folder / place).resolve() / OTHER)
    corpus = read_voxceleb1(folder)
    assert {each.key: each.split for each in corpus.utterances} == official
    assert corpus.notes == (f"the split is that of {moved}",)
    # It is no list of trials, whose names begin alike.
    assert list(corpus.attachments) == ["trials/veri_test.txt"]


@pytest.mark.parametrize("above", ["link", "target"])
def test_above_a_link_is_its_folder_and_then_that_of_its_target(
    folder: Path, tmp_path: Path, above: str
) -> None:
    official = splits_of(folder)
    link = tmp_path / "links" / "vox"
    link.parent.mkdir()
    link.symlink_to(folder)
    place = {"link": link.parent, "target": folder.parent}[above]
    shutil.move(folder / OFFICIAL, place / OTHER)
    assert splits_of(link) == official


def test_trial_lists_above_come_with_the_split_above(folder: Path) -> None:
    for name in (OFFICIAL, "veri_test.txt"):
        (folder / name).rename(folder.parent / name)
    assert list(read_voxceleb1(folder).attachments) == ["trials/veri_test.txt"]
    # A split that was named says nothing of other lists.
    given = read_voxceleb1(folder, folder.parent / OFFICIAL)
    assert list(given.attachments) == []


def test_the_list_beside_the_audio_goes_before_that_above(folder: Path) -> None:
    (folder.parent / OTHER).write_text("1 id1/a/1.wav\n")
    assert len(splits_of(folder)) == 12
    assert read_voxceleb1(folder).notes == ()


def test_two_lists_of_the_same_splits_are_one(folder: Path) -> None:
    lines = (folder / OFFICIAL).read_text().splitlines()
    (folder / OTHER).write_text("\n".join(f"{line}" for line in reversed(lines)))
    assert len(splits_of(folder)) == 12


def test_two_lists_that_differ_are_refused_with_the_way_out(folder: Path) -> None:
    first, *others = (folder / OFFICIAL).read_text().splitlines()
    split, path = first.split()
    changed = "2" if split == "1" else "1"
    (folder / OTHER).write_text("\n".join([f"{changed} {path}", *others]))
    with pytest.raises(InputError) as caught:
        read_voxceleb1(folder)
    before, after = SPLITS[split], SPLITS[changed]
    assert str(caught.value) == (
        f"{folder / OFFICIAL} and {folder / OTHER} are different splits: {path} is in {before} and "
        f"in {after}; name the one to take with --split-file, or remove the other"
    )
    given = read_voxceleb1(folder, folder / OTHER)
    assert len(given.utterances) == 12


def test_a_given_list_that_is_not_there_is_named(folder: Path) -> None:
    missing = folder / "lists.txt"
    with pytest.raises(InputError, match=f"^there is no split file {missing}: get iden_split.txt"):
        read_voxceleb1(folder, missing)


def test_the_folder_of_speakers_leads_to_the_one_with_the_list(folder: Path) -> None:
    (folder / OFFICIAL).rename(folder / OTHER)
    with pytest.raises(InputError, match=f"Did you mean {folder}\\?$"):
        read_voxceleb1(folder / "wav")


def test_prepare_says_which_list_it_took(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.move(folder / OFFICIAL, folder / OTHER)
    out = tmp_path / "data"
    assert main(["prepare", "voxceleb1", str(folder), "--out", str(out), "--workers", "1"]) == 0
    assert f"the split is that of {folder / OTHER}" in capsys.readouterr().err
    assert set(Dataset(out).table.column("split").to_pylist()) == {"train", "dev", "test"}
