import io
import json
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import soundfile

from aalbert.common.files import file_digest
from aalbert.errors import (
    InputError,
    IntegrityError,
    OutputInUseError,
    TooManySkippedError,
)
from aalbert.pipeline.corpora.librispeech import read_librispeech
from aalbert.pipeline.corpora.synthesis import write_voxceleb1
from aalbert.pipeline.corpora.voxceleb1 import read_voxceleb1
from aalbert.pipeline.prepare.config import PrepareConfig
from aalbert.pipeline.prepare.engine import LocalEngine
from aalbert.pipeline.prepare.output import LocalOutput
from aalbert.pipeline.prepare.plan import make_plan, plan_fingerprint
from aalbert.pipeline.prepare.prepare import PrepareLimits, prepare
from aalbert.pipeline.prepare.shard_task import run_task
from aalbert.pipeline.prepare.work_folder import Part, claim, make_record
from aalbert.shards import Dataset

ONE = PrepareLimits(engine=LocalEngine(workers=1))


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def index_rows(folder: Path) -> list[dict[str, Any]]:
    tables = [pa.ipc.open_file(str(path)).read_all() for path in folder.glob("index/*.arrow")]
    rows: list[dict[str, Any]] = pa.concat_tables(tables).to_pylist()
    return rows


@pytest.fixture
def damaged_corpus(librispeech_folder: Path, tmp_path: Path) -> Path:
    """The corpus with three broken files."""
    root = Path(shutil.copytree(librispeech_folder, tmp_path / "LibriSpeech"))
    paths = sorted(root.rglob("*.flac"))
    paths[0].write_bytes(b"")
    paths[9].write_bytes(b"<html>")
    paths[20].write_bytes(paths[20].read_bytes()[:3000])
    return root


def test_a_dataset_holds_these_files_and_no_others(prepared: Path) -> None:
    names = tree(prepared).keys()
    assert {name for name in names if not name.endswith(".tar")} == {
        "README.md",
        "manifest.json",
        "skipped.jsonl",
        "index/dev-clean.arrow",
        "index/train-clean-100.arrow",
        "statistics/dev-clean.arrow",
        "statistics/train-clean-100.arrow",
    }
    assert len([name for name in names if name.endswith(".tar")]) >= 6
    assert {path.name for path in prepared.iterdir() if path.is_dir()} == {
        "dev-clean",
        "train-clean-100",
        "index",
        "statistics",
    }


def test_two_runs_write_the_same_bytes(
    prepared: Path, librispeech_folder: Path, small_config: PrepareConfig, tmp_path: Path
) -> None:
    prepare(read_librispeech(librispeech_folder), tmp_path / "b", small_config, ONE)
    assert tree(tmp_path / "b") == tree(prepared)


def test_two_workers_write_the_bytes_of_one(
    prepared: Path, librispeech_folder: Path, small_config: PrepareConfig, tmp_path: Path
) -> None:
    corpus = read_librispeech(librispeech_folder)
    prepare(corpus, tmp_path / "b", small_config, PrepareLimits(engine=LocalEngine(workers=2)))
    assert tree(tmp_path / "b") == tree(prepared)


def test_a_corpus_at_another_place_gives_the_same_bytes(
    prepared: Path, librispeech_folder: Path, small_config: PrepareConfig, tmp_path: Path
) -> None:
    moved = Path(shutil.copytree(librispeech_folder, tmp_path / "moved"))
    prepare(read_librispeech(moved), tmp_path / "b", small_config, ONE)
    assert tree(tmp_path / "b") == tree(prepared)


def test_an_interrupted_run_is_finished_with_the_same_bytes(
    prepared: Path, librispeech_folder: Path, small_config: PrepareConfig, tmp_path: Path
) -> None:
    out = tmp_path / "b"
    corpus = read_librispeech(librispeech_folder)
    tasks = make_plan(corpus, small_config)
    output, plan = LocalOutput(folder=out), plan_fingerprint(corpus, small_config)
    claim(output, corpus, make_record(corpus, small_config, tasks, plan, Part()), Part())
    for task in tasks[:3]:
        run_task(task, output)
    finished = [out / f"{task.name}.tar" for task in tasks[:2]]
    (out / ".prepare" / f"{tasks[2].name}.arrow").unlink()  # killed before its index rows
    (out / f"{tasks[2].name}.tar").write_bytes(b"older")
    (out / f"{tasks[3].name}.tar.{0:016x}.partial").write_bytes(b"half a shard")
    (out / f"{tasks[0].name}.tar.{1:016x}.partial").write_bytes(b"half a shard of another part")
    (out / ".prepare" / f"{tasks[3].name}.arrow.partial").write_bytes(b"half an index")
    before = [path.stat().st_mtime_ns for path in finished]
    prepare(corpus, out, small_config, ONE)
    assert tree(out) == tree(prepared)
    assert [path.stat().st_mtime_ns for path in finished] == before


def test_a_run_killed_while_it_claimed_the_folder_can_be_repeated(
    prepared: Path, librispeech_folder: Path, small_config: PrepareConfig, tmp_path: Path
) -> None:
    out = tmp_path / "b"
    (out / ".prepare").mkdir(parents=True)
    (out / ".prepare" / "jobs").mkdir()
    (out / ".prepare" / "jobs" / "1-of-1.json.partial").write_bytes(b"{")
    prepare(read_librispeech(librispeech_folder), out, small_config, ONE)
    assert tree(out) == tree(prepared)


def test_a_run_killed_after_its_manifest_is_cleaned_up_by_the_next(
    dataset_copy: Path, prepared: Path, librispeech_folder: Path, small_config: PrepareConfig
) -> None:
    (dataset_copy / ".prepare" / "dev-clean").mkdir(parents=True)
    (dataset_copy / ".prepare" / "dev-clean" / "000000.arrow").write_bytes(b"x")
    prepare(read_librispeech(librispeech_folder), dataset_copy, small_config, ONE)
    assert tree(dataset_copy) == tree(prepared)
    assert not (dataset_copy / ".prepare").exists()


def test_a_finished_dataset_is_left_as_it_is(
    dataset_copy: Path, librispeech_folder: Path, small_config: PrepareConfig
) -> None:
    before = {path: path.stat().st_mtime_ns for path in dataset_copy.rglob("*")}
    manifest = prepare(read_librispeech(librispeech_folder), dataset_copy, small_config, ONE)
    assert {path: path.stat().st_mtime_ns for path in dataset_copy.rglob("*")} == before
    assert manifest == Dataset(dataset_copy).manifest


def test_a_finished_dataset_of_other_settings_is_not_touched(
    dataset_copy: Path, prepared: Path, librispeech_folder: Path, small_config: PrepareConfig
) -> None:
    other = replace(small_config, strict_audio=True)
    with pytest.raises(OutputInUseError) as caught:
        prepare(read_librispeech(librispeech_folder), dataset_copy, other, ONE)
    assert str(caught.value) == (
        f"{dataset_copy} holds a dataset made from other files or settings: "
        "choose another --out, or delete it first"
    )
    assert tree(dataset_copy) == tree(prepared)


def test_an_unfinished_dataset_of_other_settings_is_not_touched(
    librispeech_folder: Path, small_config: PrepareConfig, tmp_path: Path
) -> None:
    out = tmp_path / "b"
    corpus = read_librispeech(librispeech_folder)
    job = make_record(corpus, small_config, make_plan(corpus, small_config), "another plan", Part())
    claim(LocalOutput(folder=out), corpus, job, Part())
    before = tree(out)
    with pytest.raises(OutputInUseError) as caught:
        prepare(read_librispeech(librispeech_folder), out, small_config, ONE)
    assert str(caught.value) == (
        f"{out} holds an unfinished 'prepare' of other files or settings: "
        "choose another --out, or delete it first"
    )
    (out / ".prepare" / "lock").unlink()
    assert tree(out) == before


def test_a_folder_of_something_else_is_not_touched(
    librispeech_folder: Path, small_config: PrepareConfig, tmp_path: Path
) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(OutputInUseError) as caught:
        prepare(read_librispeech(librispeech_folder), tmp_path, small_config, ONE)
    assert str(caught.value) == f"{tmp_path} is not empty: choose another --out"
    assert tree(tmp_path) == {"thesis.tex": b"precious"}


def test_a_corpus_without_audio_is_refused(tmp_path: Path, small_config: PrepareConfig) -> None:
    (tmp_path / "corpus" / "dev-clean").mkdir(parents=True)
    with pytest.raises(InputError) as caught:
        prepare(read_librispeech(tmp_path / "corpus"), tmp_path / "out", small_config, ONE)
    assert str(caught.value) == f"no audio files below {tmp_path / 'corpus'}"
    assert not (tmp_path / "out").exists()


def test_a_corpus_of_broken_files_only_is_refused_with_an_example(
    tmp_path: Path, small_config: PrepareConfig
) -> None:
    chapter = tmp_path / "corpus/dev-clean/1/2"
    chapter.mkdir(parents=True)
    for number in range(3):
        (chapter / f"1-2-000{number}.flac").touch()
    with pytest.raises(InputError, match=r"none of the 3 audio files .* is empty \(0 bytes\)"):
        prepare(read_librispeech(tmp_path / "corpus"), tmp_path / "out", small_config, ONE)


def test_too_many_broken_files_are_an_error_but_the_rest_is_complete(
    damaged_corpus: Path, small_config: PrepareConfig, tmp_path: Path
) -> None:
    out = tmp_path / "b"
    with pytest.raises(TooManySkippedError) as caught:
        prepare(read_librispeech(damaged_corpus), out, small_config, ONE)
    assert str(caught.value).startswith(
        "3 of 30 inputs were skipped, more than --max-skipped 0.001 allows; most often (2): "
    )
    assert str(caught.value).endswith(
        f". The dataset is complete without them; see {out / 'skipped.jsonl'}"
    )
    dataset = Dataset(out)
    assert len(dataset) == 27
    assert all(len(dataset.features(row, "logmel")) for row in range(27))


def test_too_many_broken_files_are_an_error_again_when_run_again(
    damaged_corpus: Path, small_config: PrepareConfig, tmp_path: Path
) -> None:
    corpus = read_librispeech(damaged_corpus)
    for _ in range(2):
        with pytest.raises(TooManySkippedError):
            prepare(corpus, tmp_path / "b", small_config, ONE)


def test_broken_files_are_listed_with_their_reasons(
    damaged_corpus: Path, small_config: PrepareConfig, tmp_path: Path
) -> None:
    out = tmp_path / "b"
    limits = PrepareLimits(engine=LocalEngine(workers=1), max_skipped=0.2)
    manifest = prepare(read_librispeech(damaged_corpus), out, small_config, limits)
    listed = [json.loads(line) for line in (out / "skipped.jsonl").read_text().splitlines()]
    paths = sorted(damaged_corpus.rglob("*.flac"))
    expected = {paths[n].relative_to(damaged_corpus).as_posix() for n in (0, 9, 20)}
    assert {skip["source"] for skip in listed} == expected
    assert all(skip["reason"] for skip in listed)
    assert manifest.skipped == 3
    keys = {row["key"] for row in index_rows(out)}
    assert keys == {path.stem for path in paths} - {paths[n].stem for n in (0, 9, 20)}


def test_one_broken_file_is_always_tolerated(
    damaged_corpus: Path, librispeech_folder: Path, small_config: PrepareConfig, tmp_path: Path
) -> None:
    for number in (9, 20):
        path = sorted(damaged_corpus.rglob("*.flac"))[number]
        shutil.copy(librispeech_folder / path.relative_to(damaged_corpus), path)
    manifest = prepare(read_librispeech(damaged_corpus), tmp_path / "b", small_config, ONE)
    assert (manifest.utterances, manifest.skipped) == (29, 1)


def test_index_rows_have_the_labels_of_the_corpus(prepared: Path, librispeech_folder: Path) -> None:
    texts = dict(
        line.split(" ", 1)
        for path in librispeech_folder.rglob("*.trans.txt")
        for line in path.read_text("utf-8").splitlines()
    )
    rows = index_rows(prepared)
    assert {row["key"]: row["text"] for row in rows} == texts
    for row in rows:
        speaker, chapter, _ = row["key"].split("-")
        assert (row["speaker"], row["chapter"]) == (speaker, chapter)
        assert row["source"] == f"{row['split']}/{speaker}/{chapter}/{row['key']}.flac"


def test_index_rows_count_the_samples_and_frames_of_the_files(
    prepared: Path, librispeech_folder: Path
) -> None:
    for row in index_rows(prepared):
        info = soundfile.info(librispeech_folder / row["source"])
        assert row["samples"] == info.frames
        assert row["logmel_frames"] == 1 + info.frames // 160
        assert row["fbank_frames"] == 1 + (info.frames - 400) // 160
        assert (row["source_sample_rate"], row["source_channels"]) == (16_000, 1)
        assert row["flags"] == []


@pytest.mark.parametrize("feature", ["logmel", "fbank"])
def test_corpus_statistics_are_those_of_all_frames_together(prepared: Path, feature: str) -> None:
    arrays = []
    for path in sorted(prepared.glob("*/*.tar")):
        with tarfile.open(path, "r:") as tar:
            arrays += [
                np.load(io.BytesIO(tar.extractfile(member).read()))  # type: ignore[union-attr]
                for member in tar
                if member.name.endswith(f"{feature}.npy")
            ]
    frames = np.concatenate(arrays).astype(np.float64)
    statistics = Dataset(prepared).manifest.statistics[feature]
    assert statistics.frames == len(frames)
    np.testing.assert_allclose(statistics.mean, frames.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(statistics.std, frames.std(axis=0), rtol=1e-5)


def test_the_manifest_records_every_file_with_its_size_and_hash(prepared: Path) -> None:
    manifest = Dataset(prepared).manifest
    for record in manifest.files:
        path = prepared / record.path
        assert record.size == path.stat().st_size
        assert record.xxh3 == file_digest(path)
    assert {record.path for record in manifest.files} == tree(prepared).keys() - {"manifest.json"}
    for split in manifest.splits.values():
        assert split.utterances == sum(shard.utterances for shard in split.shards)
    assert {record.path for split in manifest.splits.values() for record in split.shards} == {
        path.relative_to(prepared).as_posix() for path in prepared.glob("*/*.tar")
    }


def test_the_manifest_counts_hours_and_speakers(prepared: Path, librispeech_folder: Path) -> None:
    manifest = Dataset(prepared).manifest
    for name, speakers in (("train-clean-100", 4), ("dev-clean", 2)):
        seconds = sum(
            soundfile.info(path).duration for path in (librispeech_folder / name).rglob("*.flac")
        )
        assert manifest.splits[name].hours == pytest.approx(seconds / 3600)
        assert manifest.splits[name].speakers == speakers


def test_the_card_counts_splits_and_names_the_features(prepared: Path) -> None:
    card = (prepared / "README.md").read_text("utf-8")
    manifest = Dataset(prepared).manifest
    _, _, text = card.partition("\n---\n\n")
    assert text.startswith("# librispeech: features of speech for aalbert\n\n30 utterances, 0.00 h")
    assert manifest.fingerprint in card
    assert "| dev-clean | 6 | 0.00 | 2 |" in card
    assert "- `logmel`, 80 numbers a frame: kind logmel, sample_rate 16000, fft_size 400" in card


def test_voxceleb1_becomes_splits_with_its_trial_list(
    tmp_path: Path, small_config: PrepareConfig
) -> None:
    root, out = tmp_path / "VoxCeleb1", tmp_path / "data"
    write_voxceleb1(
        root, speakers=2, videos_per_speaker=2, utterances_per_video=2, seed=1, seconds=(0.2, 0.3)
    )
    manifest = prepare(read_voxceleb1(root), out, small_config, ONE)
    assert {name: split.utterances for name, split in manifest.splits.items()} == {
        "dev": 2,
        "test": 4,
        "train": 2,
    }
    assert (out / "trials/veri_test.txt").read_bytes() == (root / "veri_test.txt").read_bytes()
    assert {row["speaker"] for row in index_rows(out)} == {"id10001", "id10002"}


def test_genuine_librispeech_is_prepared_completely(
    shared: Path, tmp_path: Path, small_config: PrepareConfig
) -> None:
    corpus = read_librispeech(shared / "data/LibriSpeech", ["test-clean", "dev-other"])
    manifest = prepare(corpus, tmp_path / "data", small_config, ONE)
    assert (manifest.utterances, manifest.skipped) == (5, 0)
    seconds = sum(soundfile.info(u.path).duration for u in corpus.utterances)
    assert manifest.hours == pytest.approx(seconds / 3600)


def test_a_finished_dataset_that_lost_a_shard_is_not_called_finished(
    dataset_copy: Path, librispeech_folder: Path, small_config: PrepareConfig
) -> None:
    shard = next(dataset_copy.glob("*/*.tar"))
    shard.unlink()
    with pytest.raises(IntegrityError, match=f"{shard} is missing"):
        prepare(read_librispeech(librispeech_folder), dataset_copy, small_config, ONE)


def test_with_max_skipped_0_one_skipped_file_is_too_many(
    damaged_corpus: Path, small_config: PrepareConfig, tmp_path: Path
) -> None:
    limits = PrepareLimits(engine=LocalEngine(workers=1), max_skipped=0.0)
    with pytest.raises(TooManySkippedError, match="more than --max-skipped 0 allows"):
        prepare(read_librispeech(damaged_corpus), tmp_path / "b", small_config, limits)
