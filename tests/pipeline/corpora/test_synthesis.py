import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import torchaudio

from aalbert.pipeline.corpora.synthesis import write_librispeech, write_voxceleb1

SHORT = (0.4, 0.6)


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def columns(path: Path) -> list[list[str]]:
    return [line.split() for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def librispeech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("librispeech")
    write_librispeech(root, speakers=3, utterances_per_speaker=5, seed=1, seconds=SHORT)
    write_librispeech(
        root,
        speakers=2,
        utterances_per_speaker=1,
        seed=1,
        seconds=SHORT,
        subset="dev-clean",
        first_speaker=400,
    )
    return root


@pytest.fixture(scope="module")
def voxceleb1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("voxceleb1")
    write_voxceleb1(
        root, speakers=5, videos_per_speaker=3, utterances_per_video=2, seed=1, seconds=SHORT
    )
    return root


def test_librispeech_layout(librispeech: Path) -> None:
    files = sorted(librispeech.rglob("*.flac"))
    assert len(files) == 3 * 5 + 2 * 1
    for file in files:
        subset, speaker, chapter, name = file.relative_to(librispeech).parts
        assert re.fullmatch(rf"{speaker}-{chapter}-\d{{4}}\.flac", name)
        assert subset == ("dev-clean" if int(speaker) < 1000 else "train-clean-100")
    chapters = Counter(file.parts[-3] for file in {file.parent / "x" for file in files})
    assert chapters == {"1000": 2, "1001": 2, "1002": 2, "400": 1, "401": 1}


def test_librispeech_transcripts_name_every_utterance_of_their_chapter(librispeech: Path) -> None:
    for chapter in {file.parent for file in librispeech.rglob("*.flac")}:
        (transcript,) = chapter.glob("*.trans.txt")
        assert transcript.name == f"{chapter.parent.name}-{chapter.name}.trans.txt"
        lines = transcript.read_text().splitlines()
        names = [line.split(maxsplit=1)[0] for line in lines]
        assert names == sorted(file.stem for file in chapter.glob("*.flac"))
        assert all(re.fullmatch(r"\S+( [A-Z]+)+", line) for line in lines)


def test_alignments_have_a_phone_for_every_10_ms_of_both_subsets(librispeech: Path) -> None:
    frames_of = {key: len(phones) for key, *phones in columns(librispeech / "alignments.txt")}
    files = sorted(librispeech.rglob("*.flac"))
    assert frames_of == {file.stem: soundfile.info(file).frames // 160 for file in files}
    names = json.loads((librispeech / "phones.json").read_text())
    numbers = {
        int(number) for _, *phones in columns(librispeech / "alignments.txt") for number in phones
    }
    assert numbers < set(range(len(names)))


def test_a_subset_that_is_written_again_replaces_its_alignments(tmp_path: Path) -> None:
    for seed in (1, 2):
        write_librispeech(tmp_path, speakers=1, utterances_per_speaker=1, seed=seed, seconds=SHORT)
        ((key, *phones),) = columns(tmp_path / "alignments.txt")
        assert (key, len(phones)) == (
            "1000-10000-0000",
            soundfile.info(next(tmp_path.rglob("*.flac"))).frames // 160,
        )


def test_speakers_txt_holds_the_readers_of_both_subsets(librispeech: Path) -> None:
    lines = (librispeech / "SPEAKERS.TXT").read_text().splitlines()
    rows = [[field.strip() for field in line.split("|")] for line in lines if line[0] != ";"]
    assert lines[0].startswith(";")
    assert [int(row[0]) for row in rows] == [400, 401, 1000, 1001, 1002]
    assert [row[2] for row in rows] == ["dev-clean"] * 2 + ["train-clean-100"] * 3
    assert {row[1] for row in rows} <= {"F", "M"}
    files = librispeech.glob("train-clean-100/1000/*/*.flac")
    minutes = sum(soundfile.info(file).duration for file in files) / 60
    assert float(rows[2][3]) == pytest.approx(minutes, abs=0.006)


def test_voxceleb1_layout(voxceleb1: Path) -> None:
    files = sorted(p.relative_to(voxceleb1 / "wav").as_posix() for p in voxceleb1.rglob("*.wav"))
    assert len(files) == 5 * 3 * 2
    assert all(re.fullmatch(r"id1\d{4}/[\w-]{11}/0000[12]\.wav", file) for file in files)
    assert sorted(path for _, path in columns(voxceleb1 / "iden_split.txt")) == files
    assert len({Path(file).parent.name for file in files}) == 5 * 3


def test_every_speaker_is_in_every_part_and_no_test_video_is_heard_before(voxceleb1: Path) -> None:
    split = columns(voxceleb1 / "iden_split.txt")
    videos = {part: {path.rsplit("/", 1)[0] for p, path in split if p == part} for part in "123"}
    assert not videos["3"] & (videos["1"] | videos["2"])
    for part in "123":
        assert len({video.split("/")[0] for video in videos[part]}) == 5
    assert Counter(part for part, _ in split) == {"1": 15, "2": 5, "3": 10}


def test_trials_are_half_same_speaker_and_of_test_speakers(voxceleb1: Path) -> None:
    header, *rows = [
        line.split("\t") for line in (voxceleb1 / "vox1_meta.csv").read_text().splitlines()
    ]
    assert header == ["VoxCeleb1 ID", "VGGFace1 ID", "Gender", "Nationality", "Set"]
    assert [row[0] for row in rows] == [f"id1000{n}" for n in range(1, 6)]
    tested = {row[0] for row in rows if row[4] == "test"}
    trials = columns(voxceleb1 / "veri_test.txt")
    assert Counter(label for label, _, _ in trials) == {"1": 12, "0": 12}
    for label, left, right in trials:
        assert (label == "1") == (left.split("/")[0] == right.split("/")[0])
        assert left.split("/")[1] != right.split("/")[1]
        assert {left.split("/")[0], right.split("/")[0]} <= tested
        assert (voxceleb1 / "wav" / left).exists() and (voxceleb1 / "wav" / right).exists()


def test_recordings_are_16_bit_mono_at_16_khz_of_the_requested_length(
    librispeech: Path, voxceleb1: Path
) -> None:
    for file in (*librispeech.rglob("*.flac"), *voxceleb1.rglob("*.wav")):
        info = soundfile.info(file)
        assert (info.samplerate, info.channels, info.subtype) == (16_000, 1, "PCM_16")
        assert SHORT[0] - 0.001 <= info.duration <= SHORT[1] + 0.001


def test_the_same_arguments_write_the_same_bytes(
    librispeech: Path, voxceleb1: Path, tmp_path: Path
) -> None:
    write_voxceleb1(
        tmp_path / "v",
        speakers=5,
        videos_per_speaker=3,
        utterances_per_video=2,
        seed=1,
        seconds=SHORT,
    )
    assert contents(tmp_path / "v") == contents(voxceleb1)
    write_librispeech(tmp_path / "l", speakers=3, utterances_per_speaker=5, seed=1, seconds=SHORT)
    again, earlier = contents(tmp_path / "l"), contents(librispeech)
    # These two have lines of the other subset too.
    del again["SPEAKERS.TXT"]
    lines, all_lines = (each.pop("alignments.txt").splitlines() for each in (again, earlier))
    assert set(lines) < set(all_lines)
    assert again.items() <= earlier.items()


def test_another_seed_writes_other_recordings(librispeech: Path, tmp_path: Path) -> None:
    write_librispeech(tmp_path, speakers=1, utterances_per_speaker=2, seed=2, seconds=SHORT)
    name = "train-clean-100/1000/10000/1000-10000-0000.flac"
    assert (tmp_path / name).read_bytes() != (librispeech / name).read_bytes()


def test_a_larger_corpus_contains_the_smaller_one(librispeech: Path, tmp_path: Path) -> None:
    write_librispeech(tmp_path, speakers=1, utterances_per_speaker=5, seed=1, seconds=SHORT)
    small = {name for name in contents(tmp_path) if name.endswith(".flac")}
    large = contents(librispeech)
    assert all((tmp_path / name).read_bytes() == large[name] for name in small)


def test_a_speaker_is_identified_in_another_room_better_than_by_chance(tmp_path: Path) -> None:
    write_voxceleb1(
        tmp_path,
        speakers=8,
        videos_per_speaker=3,
        utterances_per_video=3,
        seed=1,
        seconds=(1.5, 1.5),
    )
    logmel = torchaudio.transforms.MelSpectrogram(16_000, n_fft=512, hop_length=160, n_mels=40)
    split = columns(tmp_path / "iden_split.txt")
    waves = [soundfile.read(tmp_path / "wav" / path, dtype="float32")[0] for _, path in split]
    frames = torch.log(logmel(torch.from_numpy(np.stack(waves))) + 1e-6)
    features = torch.cat([frames.mean(-1), frames.std(-1)], dim=1)
    train, test = (torch.tensor([part == wanted for part, _ in split]) for wanted in "13")
    features = (features - features[train].mean(0)) / features[train].std(0)
    speaker = torch.tensor([int(path[2:7]) - 10_001 for _, path in split])
    target = torch.eye(8)[speaker[train]] - 1 / 8
    ridge = features[train].T @ features[train] + 10 * torch.eye(80)
    weights = torch.linalg.solve(ridge, features[train].T @ target)
    accuracy = ((features[test] @ weights).argmax(1) == speaker[test]).float().mean()
    assert 0.35 < accuracy < 0.97
