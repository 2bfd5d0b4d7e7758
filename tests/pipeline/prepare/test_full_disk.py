"""A disk that is full, or cannot be written, on a small file system that is mounted for it."""

import os
import subprocess
from pathlib import Path

import pytest

from aalbert.cli import main
from aalbert.errors import StorageError
from aalbert.pipeline.corpora.librispeech import read_librispeech
from aalbert.pipeline.prepare.config import PrepareConfig
from aalbert.pipeline.prepare.engine import LocalEngine
from aalbert.pipeline.prepare.prepare import PrepareLimits, prepare
from tests.trees import tree


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_ends_the_run_which_continues_once_there_is_space(
    librispeech_folder: Path,
    prepared: Path,
    small_config: PrepareConfig,
    small_disk: Path,
    monkeypatch: pytest.MonkeyPatch,
    workers: int,
) -> None:
    out, filler = small_disk / "data", small_disk / "filler"
    corpus = read_librispeech(librispeech_folder)
    limits = PrepareLimits(engine=LocalEngine(workers=workers))

    def fill_up(needed: int, free: int, place: str) -> None:
        filler.write_bytes(bytes(free - 300_000))

    with monkeypatch.context() as patch:
        patch.setattr("aalbert.pipeline.prepare.prepare.require_space", fill_up)
        with pytest.raises(StorageError) as caught:
            prepare(corpus, out, small_config, limits)
    message = str(caught.value)
    assert message.startswith(f"no space left in {out}: ")
    assert " shards, about " in message
    assert message.endswith(
        "are still to be written. Make room and run the same command again: finished work is kept"
    )
    left = tree(out)
    assert not [path for path in left if path.endswith(".partial")]
    finished = {path: data for path, data in left.items() if path.endswith(".tar")}
    assert finished
    assert all(tree(prepared)[path] == data for path, data in finished.items())
    filler.unlink()
    prepare(corpus, out, small_config, limits)
    assert tree(out) == tree(prepared)


def test_a_corpus_that_does_not_fit_is_refused_before_the_work(
    librispeech_folder: Path, small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (small_disk / "filler").write_bytes(bytes(8 * 2**20 - 100_000))
    arguments = ["prepare", "librispeech", str(librispeech_folder)]
    assert main([*arguments, "--out", str(small_disk / "data"), "--workers", "1"]) == 7
    error = capsys.readouterr().err
    assert "aalbert: needs about " in error
    assert f"free in {small_disk / 'data'}: make room there, or choose another --out" in error
    assert not list(small_disk.glob("data/*/*.tar*"))


def test_a_place_that_cannot_be_written_is_refused_before_the_work(
    librispeech_folder: Path, small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    arguments = ["prepare", "librispeech", str(librispeech_folder)]
    assert main([*arguments, "--out", str(small_disk / "data"), "--workers", "1"]) == 7
    assert f"aalbert: {os.strerror(30)}: {small_disk / 'data'}" in capsys.readouterr().err
    assert list(small_disk.iterdir()) == []


def test_every_error_of_a_full_disk_is_recognised(
    librispeech_folder: Path,
    small_config: PrepareConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same without mounting: the third file cannot be synced."""
    sync, synced = os.fsync, []

    def full(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) > 12:
            raise OSError(28, "No space left on device")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    corpus = read_librispeech(librispeech_folder)
    with pytest.raises(StorageError, match="no space left in .* shards, about .* KiB, are still"):
        prepare(
            corpus, tmp_path / "data", small_config, PrepareLimits(engine=LocalEngine(workers=1))
        )
    assert not list(tmp_path.rglob("*.partial"))


def test_a_disk_that_is_full_at_the_end_is_reported_with_its_path(
    librispeech_folder: Path,
    prepared: Path,
    small_config: PrepareConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    corpus, limits = (
        read_librispeech(librispeech_folder),
        PrepareLimits(engine=LocalEngine(workers=1)),
    )

    def full(path: Path, table: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("aalbert.pipeline.prepare.finish.write_index", full)
        with pytest.raises(StorageError) as caught:
            prepare(corpus, tmp_path / "data", small_config, limits)
    assert str(caught.value) == (
        f"no space left in {tmp_path / 'data'}: the indexes are still to be written. "
        "Make room and run the same command again: finished work is kept"
    )
    prepare(corpus, tmp_path / "data", small_config, limits)
    assert tree(tmp_path / "data") == tree(prepared)
