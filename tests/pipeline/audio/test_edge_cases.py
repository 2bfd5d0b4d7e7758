"""Results of `aalbert prepare folder` for the unusual and broken files beside the project."""

import json
from pathlib import Path

import numpy as np
import pytest

from aalbert.cli import main
from aalbert.shards import Dataset

KINDS = ("logmel", "fbank", "mfcc", "linear")
ALL_FEATURES = [word for kind in KINDS for word in ("--feature", kind)]
# Source -> the beginning of its reason.
SKIPPED = {
    "riff_bad_header.wav": "cut off: 44 bytes",
    "riff_evil.wav": "cut off: 5044 bytes",
    "riff_awful.wav": "claims an impossible sample rate: 1092676 Hz",
    "riff_null.wav": "holds no samples",
    "header_only_zero_frames.wav": "holds no samples",
    "appledouble_junk.wav": "cannot be decoded",
    "empty.flac": "is empty (0 bytes)",
    "html_as_flac.flac": "cannot be decoded",
    "raw_g722.g722": "is .g722 audio, which must be converted with ffmpeg first: ffmpeg -i ",
    "flac_truncated_half.flac": "",
    "wav_truncated_half.wav": "cut off: 48022 bytes, the header says 96044",
    "nan_sample.wav": "holds samples that are not finite",
    "ten_ms.wav": "too short: 10.0 ms",
}
CONVERTED = {
    "pcm16_8k_mono_short.wav": ["resampled"],
    "mp3_48k.mp3": ["resampled"],
    "flac24_44k_stereo.flac": ["downmixed", "resampled"],
    "pcm8_44k_stereo.wav": ["downmixed", "resampled"],
    "opus_stereo.opus": ["downmixed", "resampled"],
    "sphere_stereo.sph": ["downmixed", "resampled"],
    "wav_8ch.wav": ["downmixed"],
}
TAKEN = {
    "all_zero.wav": ["silent"],
    "dc_only.wav": ["constant"],
    "clipped.wav": ["clipped"],
    "pcm16_16k_mono.wav": [],
    "float32_16k_mono.wav": [],
}


def prepare_edge_cases(shared: Path, out: Path, *options: str) -> tuple[Dataset, dict[str, str]]:
    folder = str(shared / "data" / "edge_cases")
    arguments = ["prepare", "folder", folder, "--out", str(out), "--workers", "1", *options]
    assert main([*arguments, "--max-skipped", "1"]) == 0
    lines = (out / "skipped.jsonl").read_text("utf-8").splitlines()
    skipped = {skip["source"]: skip["reason"] for skip in map(json.loads, lines)}
    return Dataset(out), skipped


def test_every_odd_file_is_treated_as_its_description_says(shared: Path, tmp_path: Path) -> None:
    dataset, skipped = prepare_edge_cases(shared, tmp_path / "data", *ALL_FEATURES)
    assert skipped.keys() == SKIPPED.keys()
    for source, reason in SKIPPED.items():
        assert skipped[source].startswith(reason)
        assert skipped[source]
    flags = dict(zip(dataset.column("source"), dataset.column("flags"), strict=True))
    assert {
        source: sorted((found or "").split()) for source, found in flags.items()
    } == TAKEN | CONVERTED
    for row in range(len(dataset)):
        for feature in dataset.manifest.features:
            assert np.isfinite(dataset.features(row, feature)).all()
    files = {path.name for path in (shared / "data" / "edge_cases").iterdir()}
    assert files == SKIPPED.keys() | TAKEN.keys() | CONVERTED.keys()


def test_strict_audio_refuses_what_would_be_converted(shared: Path, tmp_path: Path) -> None:
    dataset, skipped = prepare_edge_cases(shared, tmp_path / "data", "--strict-audio")
    assert set(dataset.column("source")) == TAKEN.keys()
    assert skipped.keys() == SKIPPED.keys() | CONVERTED.keys()
    assert skipped["wav_8ch.wav"] == "not 16000 Hz mono (strict audio): 16000 Hz, channels 8"


@pytest.mark.parametrize("conditioning", [["--trim-silence"], ["--loudness-db", "-25"]])
def test_odd_files_stay_finite_however_the_wave_is_conditioned(
    shared: Path, tmp_path: Path, conditioning: list[str]
) -> None:
    dataset, _ = prepare_edge_cases(shared, tmp_path / "data", *conditioning)
    assert len(dataset) == len(TAKEN) + len(CONVERTED)
    for row in range(len(dataset)):
        assert np.isfinite(dataset.features(row, "logmel")).all()
