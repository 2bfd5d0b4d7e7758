from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from aalbert.pipeline.audio import UnusableAudioError, read_audio
from aalbert.pipeline.corpus import Utterance
from aalbert.pipeline.features import extract
from aalbert.pipeline.plan import PrepareConfig
from aalbert.pipeline.task import make_sample
from aalbert.shards.settings import FbankSettings, LogMelSettings

RATE = 16_000
BOTH = PrepareConfig(features=(LogMelSettings(), FbankSettings()))

REFUSED = {
    "riff_bad_header.wav": "cannot be decoded: .*data",
    "riff_evil.wav": "cannot be decoded: .*data",
    "riff_awful.wav": "claims a sample rate of 1092676 Hz",
    "riff_null.wav": "holds no samples",
    "header_only_zero_frames.wav": "holds no samples",
    "appledouble_junk.wav": "cannot be decoded: Format not recognised",
    "empty.flac": r"is empty \(0 bytes\)",
    "html_as_flac.flac": "cannot be decoded: Format not recognised",
    "raw_g722.g722": "cannot be decoded: Format not recognised",
    "flac_truncated_half.flac": "cannot be decoded: flac decoder lost sync",
    "wav_truncated_half.wav": "cut off: 48022 bytes, the header says 96044",
    "nan_sample.wav": r"not finite \(NaN or infinity\)",
    "ten_ms.wav": r"too short: 10\.0 ms, one analysis window is 25\.0 ms",
}
ODD = {"all_zero.wav": "silent", "dc_only.wav": "constant", "clipped.wav": "clipped"}
CONVERTED = {
    "pcm16_8k_mono_short.wav": {"resampled"},
    "mp3_48k.mp3": {"resampled"},
    "flac24_44k_stereo.flac": {"resampled", "downmixed"},
    "pcm8_44k_stereo.wav": {"resampled", "downmixed"},
    "opus_stereo.opus": {"resampled", "downmixed"},
    "sphere_stereo.sph": {"resampled", "downmixed"},
    "wav_8ch.wav": {"downmixed"},
}
PLAIN = ["pcm16_16k_mono.wav", "float32_16k_mono.wav"]


def utterance(path: Path) -> Utterance:
    return Utterance(key="a", split="train", source=path.name, path=path, size=path.stat().st_size)


def tone(hertz: float, seconds: float, rate: int = RATE, level: float = 0.5) -> NDArray[np.float32]:
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(
        np.float32
    )


def noise(seconds: float) -> NDArray[np.float32]:
    rng = np.random.default_rng(1)
    return rng.uniform(-0.5, 0.5, round(seconds * RATE)).astype(np.float32)


def strongest_hertz(wave: NDArray[np.float32], rate: int) -> float:
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave))))
    return float(spectrum.argmax() * rate / len(wave))


def cut_in_half(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


@pytest.mark.parametrize("name", REFUSED)
def test_a_broken_file_is_refused_with_its_reason(shared: Path, name: str) -> None:
    with pytest.raises(UnusableAudioError, match=REFUSED[name]):
        make_sample(utterance(shared / "data/edge_cases" / name), BOTH)


@pytest.mark.parametrize("name", [*ODD, *CONVERTED, *PLAIN])
def test_an_odd_file_is_taken_flagged_with_finite_features(shared: Path, name: str) -> None:
    sample = make_sample(utterance(shared / "data/edge_cases" / name), BOTH)
    expected = CONVERTED.get(name, {ODD[name]} if name in ODD else set())
    assert set(sample.flags) == expected
    assert all(np.isfinite(values).all() for values in sample.features.values())


@pytest.mark.parametrize("name", CONVERTED)
def test_a_converted_file_keeps_its_duration(shared: Path, name: str) -> None:
    path = shared / "data/edge_cases" / name
    samples, rate = soundfile.read(path)
    audio = read_audio(path, RATE)
    assert audio.source_sample_rate == rate
    assert audio.source_channels == (1 if samples.ndim == 1 else samples.shape[1])
    assert len(audio.wave) / RATE == pytest.approx(len(samples) / rate, abs=1 / RATE)


@pytest.mark.parametrize("name", CONVERTED)
def test_strict_audio_refuses_what_would_be_converted(shared: Path, name: str) -> None:
    with pytest.raises(UnusableAudioError, match=r"not 16000 Hz mono \(strict audio\)"):
        read_audio(shared / "data/edge_cases" / name, RATE, strict=True)


@pytest.mark.parametrize("name", [*PLAIN, *ODD])
def test_strict_audio_takes_16_khz_mono(shared: Path, name: str) -> None:
    read_audio(shared / "data/edge_cases" / name, RATE, strict=True)


@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_file_is_read_as_soundfile_reads_it(shared: Path, name: str) -> None:
    path = shared / "data/edge_cases" / name
    np.testing.assert_array_equal(
        read_audio(path, RATE).wave, soundfile.read(path, dtype="float32")[0]
    )


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_a_whole_file_is_read_as_it_was_written(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    soundfile.write(path, noise(0.5), RATE, subtype="PCM_16")
    audio = read_audio(path, RATE)
    np.testing.assert_allclose(audio.wave, noise(0.5), atol=1 / 32_768)
    assert (audio.source_sample_rate, audio.source_channels, audio.flags) == (RATE, 1, ())


def test_a_cut_wav_is_refused_and_never_half_read(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(1), RATE)
    cut_in_half(path)
    assert len(soundfile.read(path)[0]) < RATE  # libsndfile says nothing
    with pytest.raises(UnusableAudioError, match="cut off: 16022 bytes, the header says 32044"):
        read_audio(path, RATE)


def test_a_wav_that_lacks_only_its_last_sample_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(1), RATE)
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(UnusableAudioError, match="cut off"):
        read_audio(path, RATE)


def test_a_streamed_wav_whose_header_knows_no_size_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(0.1), RATE)
    raw = bytearray(path.read_bytes())
    raw[4:8] = b"\xff" * 4
    path.write_bytes(raw)
    assert len(read_audio(path, RATE).wave) == RATE // 10


@pytest.mark.parametrize("container", ["FLAC", "AIFF", "OGG", "MP3", "RF64", "NIST"])
def test_a_cut_file_of_another_format_is_refused(tmp_path: Path, container: str) -> None:
    path = tmp_path / "a"
    soundfile.write(path, noise(2), RATE, format=container)
    cut_in_half(path)
    with pytest.raises(UnusableAudioError):
        read_audio(path, RATE)


def test_a_flac_that_lacks_its_last_bytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, noise(1), RATE)
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(UnusableAudioError):
        read_audio(path, RATE)


def test_a_garbled_flac_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, noise(1), RATE)
    raw = bytearray(path.read_bytes())
    raw[8_000:10_000] = bytes(2_000)
    path.write_bytes(raw)
    with pytest.raises(UnusableAudioError):
        read_audio(path, RATE)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_sample_that_is_not_finite_is_refused(tmp_path: Path, value: float) -> None:
    wave = noise(0.1)
    wave[700] = value
    soundfile.write(tmp_path / "a.wav", wave, RATE, subtype="FLOAT")
    with pytest.raises(UnusableAudioError, match="not finite"):
        read_audio(tmp_path / "a.wav", RATE)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "cannot be decoded: Format not recog"),
        (b"RIFF", "cannot be decoded"),
        (b"fLaC", "cannot be decoded"),
        (bytes(5000), "cannot be decoded"),
    ],
    ids=["nothing", "web page", "RIFF", "fLaC", "zeros"],
)
def test_what_is_no_audio_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "a.flac"
    path.write_bytes(content)
    with pytest.raises(UnusableAudioError, match=reason):
        read_audio(path, RATE)


def test_a_wav_without_samples_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(0), RATE)
    with pytest.raises(UnusableAudioError, match="holds no samples"):
        read_audio(tmp_path / "a.wav", RATE)


def test_the_reason_does_not_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "odd: name.flac"
    path.write_bytes(b"<html>")
    with pytest.raises(UnusableAudioError) as caught:
        read_audio(path, RATE)
    assert "name" not in str(caught.value)


def test_audio_shorter_than_a_window_is_refused_with_both_lengths(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(0.01), RATE)
    with pytest.raises(UnusableAudioError) as caught:
        make_sample(utterance(path), BOTH)
    assert str(caught.value) == "too short: 10.0 ms, one analysis window is 25.0 ms"


def test_audio_of_exactly_one_window_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(0.025), RATE)
    sample = make_sample(utterance(path), BOTH)
    assert {name: len(values) for name, values in sample.features.items()} == {
        "logmel": 3,
        "fbank": 1,
    }


@pytest.mark.parametrize("source_rate", [8_000, 22_050, 44_100, 48_000])
def test_a_tone_keeps_its_pitch_level_and_duration_when_resampled(
    tmp_path: Path, source_rate: int
) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(440, 1, source_rate), source_rate, subtype="FLOAT")
    audio = read_audio(path, RATE)
    assert len(audio.wave) == RATE
    assert strongest_hertz(audio.wave, RATE) == pytest.approx(440, abs=1)
    inner = slice(500, -500)  # the filter sees silence past both ends
    np.testing.assert_allclose(audio.wave[inner], tone(440, 1)[inner], atol=2e-3)
    assert audio.source_sample_rate == source_rate
    assert audio.flags == ("resampled",)


def test_what_is_above_half_the_new_rate_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(12_000, 1, 48_000), 48_000, subtype="FLOAT")
    assert np.abs(read_audio(path, RATE).wave[500:-500]).max() < 0.01


def test_channels_are_mixed_down_to_their_mean(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    channels = np.stack([tone(300, 0.1), noise(0.1), tone(500, 0.1, level=0.1)], axis=1)
    soundfile.write(path, channels, RATE, subtype="FLOAT")
    audio = read_audio(path, RATE)
    np.testing.assert_allclose(audio.wave, channels.sum(axis=1) / 3, atol=1e-6)
    assert (audio.source_channels, audio.flags) == (3, ("downmixed",))


@pytest.mark.parametrize(("rate", "channels"), [(8_000, 1), (16_000, 2), (44_100, 2)])
def test_strict_audio_says_what_it_refused(tmp_path: Path, rate: int, channels: int) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.repeat(tone(440, 0.1, rate)[:, None], channels, axis=1), rate)
    with pytest.raises(UnusableAudioError) as caught:
        read_audio(path, RATE, strict=True)
    assert str(caught.value) == (
        f"{rate} Hz with {channels} channels, not 16000 Hz mono (strict audio)"
    )


@pytest.mark.parametrize(
    ("wave", "flags"),
    [
        (np.zeros(RATE, np.float32), ("silent",)),
        (np.full(RATE, 0.25, np.float32), ("constant",)),
        (np.full(RATE, -0.25, np.float32), ("constant",)),
        (np.clip(tone(200, 1, level=3), -1, 1), ("clipped",)),
        (tone(200, 1, level=0.99), ()),
        (tone(200, 1, level=1e-3), ()),
    ],
    ids=["silence", "positive DC", "negative DC", "clipped", "loud", "quiet"],
)
def test_odd_waves_are_flagged_and_their_features_finite(
    tmp_path: Path, wave: NDArray[np.float32], flags: tuple[str, ...]
) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, wave, RATE, subtype="FLOAT")
    audio = read_audio(path, RATE)
    assert audio.flags == flags
    for settings in (*BOTH.features, FbankSettings(amplitude="int16")):
        features = extract(audio.wave, settings)
        assert np.isfinite(features.astype(np.float16)).all()
