import json
from pathlib import Path

import pytest
import soundfile

from aalbert.cli import main
from aalbert.common.text import duration
from aalbert.pipeline.corpora.librispeech import read_librispeech
from aalbert.pipeline.prepare.config import PrepareConfig
from aalbert.pipeline.prepare.engine import LocalEngine
from aalbert.pipeline.prepare.estimate import PrepareEstimate, estimate
from aalbert.pipeline.prepare.output import LocalOutput
from aalbert.pipeline.prepare.plan import make_plan
from aalbert.shards import Dataset


def test_an_estimate_is_near_what_prepare_makes_and_writes_nothing(
    librispeech_folder: Path, small_config: PrepareConfig, prepared: Path, tmp_path: Path
) -> None:
    corpus = read_librispeech(librispeech_folder)
    output = LocalOutput(folder=tmp_path / "data")
    expected = estimate(corpus, output, small_config, LocalEngine(workers=2))
    manifest = Dataset(prepared).manifest
    assert expected.files == manifest.utterances
    assert expected.shards == len(make_plan(corpus, small_config))
    assert expected.hours == pytest.approx(manifest.hours, rel=0.01)
    frames = sum(statistics.frames for statistics in manifest.statistics.values())
    assert expected.bytes == pytest.approx(frames * 80 * 2, rel=0.05)
    assert expected.sampled_files == manifest.utterances
    assert expected.free_bytes > 0
    assert not (tmp_path / "data").exists()


def test_unusable_files_are_counted_and_a_corpus_of_nothing_else_has_no_hours(
    librispeech_folder: Path, small_config: PrepareConfig, tmp_path: Path
) -> None:
    root = tmp_path / "LibriSpeech" / "dev-clean" / "1" / "2"
    root.mkdir(parents=True)
    (root / "1-2-0000.flac").write_bytes(b"<html>")
    corpus = read_librispeech(tmp_path / "LibriSpeech")
    found = estimate(corpus, LocalOutput(folder=tmp_path), small_config, LocalEngine(workers=1))
    assert (found.unusable_files, found.hours, found.bytes) == (1, 0, 0)


def test_a_large_corpus_is_estimated_from_some_of_its_files(
    small_config: PrepareConfig, librispeech_folder: Path, tmp_path: Path
) -> None:
    source = next(librispeech_folder.rglob("*.flac"))
    folder = tmp_path / "LibriSpeech" / "dev-clean" / "1" / "2"
    folder.mkdir(parents=True)
    for number in range(300):
        (folder / f"1-2-{number:04d}.flac").symlink_to(source)
    corpus = read_librispeech(tmp_path / "LibriSpeech")
    found = estimate(corpus, LocalOutput(folder=tmp_path), small_config, LocalEngine(workers=1))
    assert found.files == 300
    assert found.sampled_files < 100
    assert found.hours == pytest.approx(300 * soundfile.info(source).duration / 3600, rel=0.01)


def test_an_estimate_reads_as_a_sentence() -> None:
    text = PrepareEstimate(
        files=281_241,
        shards=216,
        hours=960.6,
        bytes=55_400_000_000,
        free_bytes=2**40,
        seconds=1450.0,
        workers=8,
        sampled_files=64,
        unusable_files=1,
        skipped_files=3,
        usual_reason="it is empty",
        max_skipped=0.001,
        exit_code=0,
    ).describe()
    assert text == (
        "281,241 files, about 960.60 hours, into 216 shards of 51.6 GiB in all; 1.0 TiB free\n"
        "about 24 min 10 s with --workers 8, judging by 64 files that were tried "
        "(1 of them unusable); nothing was written"
    )


def test_a_dry_run_says_that_the_real_run_would_end_with_exit_code_5(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = tmp_path / "recordings", tmp_path / "data"
    root.mkdir()
    for number in range(4):
        soundfile.write(root / f"{number}.wav", [0.1] * 8000, 16_000)
    for number in range(3):
        (root / f"talk{number}.M4A").write_bytes(b"....ftypM4A ")
    (root / "empty.wav").write_bytes(b"")
    command = ["prepare", "folder", str(root), "--out", str(out), "--workers", "1"]
    assert main([*command, "--dry-run"]) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "4 of 8 inputs cannot be taken, more than --max-skipped 0.001 allows, most often: "
        "is .M4A audio, which must be converted with ffmpeg first",
        "the real run would write a dataset without them and end with exit code 5",
    ]
    assert main([*command, "--dry-run", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    expected = {"exit_code": 5, "skipped_files": 3, "unusable_files": 1, "max_skipped": 0.001}
    assert {name: document[name] for name in expected} == expected
    assert not out.exists()
    assert main(command) == 5
    capsys.readouterr()
    assert main([*command, "--dry-run", "--max-skipped", "0.5", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["exit_code"] == 0
    assert main([*command, "--max-skipped", "0.5"]) == 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (59.4, "59 s"), (60, "1 min 00 s"), (3599, "59 min 59 s"), (3660, "1 h 01 min")],
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text
