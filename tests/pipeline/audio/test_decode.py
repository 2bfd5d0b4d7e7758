import errno
import io
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from aalbert.errors import InputError
from aalbert.pipeline.audio import recording as recording_module
from aalbert.pipeline.audio.containers.examine import examine
from aalbert.pipeline.audio.decode import decode_fast, read_audio
from aalbert.pipeline.audio.features import extract
from aalbert.pipeline.audio.recording import UnusableAudioError, open_recording
from aalbert.pipeline.corpora.corpus import Utterance
from aalbert.pipeline.prepare.config import PrepareConfig
from aalbert.pipeline.prepare.shard_task import make_sample
from aalbert.shards.format.feature_settings import FbankSettings, LogMelSettings
from aalbert.shards.format.wave_settings import SilenceSettings, WaveSettings

RATE = 16_000
BOTH = PrepareConfig(features=(LogMelSettings(), FbankSettings()))

REFUSED = {
    "riff_bad_header.wav": "cut off: 44 bytes, the header says 1717986938",
    "riff_evil.wav": "cut off: 5044 bytes, the header says 960051557",
    "riff_awful.wav": "claims an impossible sample rate: 1092676 Hz",
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
def test_an_unusual_file_is_read_and_flagged_with_finite_features(shared: Path, name: str) -> None:
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
def test_strict_audio_reads_16_khz_mono(shared: Path, name: str) -> None:
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


def test_a_cut_wav_is_refused_and_never_read_in_part(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(1), RATE)
    cut_in_half(path)
    assert len(soundfile.read(path)[0]) < RATE  # libsndfile raises no error
    with pytest.raises(UnusableAudioError, match="cut off: 16022 bytes, the header says 32044"):
        read_audio(path, RATE)


def test_a_wav_that_lacks_only_its_last_sample_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(1), RATE)
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(UnusableAudioError, match="cut off"):
        read_audio(path, RATE)


def test_a_streamed_wav_without_a_size_in_its_header_is_read(tmp_path: Path) -> None:
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
def test_a_file_without_audio_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
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


def test_audio_of_exactly_one_window_is_read(tmp_path: Path) -> None:
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


def test_frequencies_above_half_the_new_rate_are_removed(tmp_path: Path) -> None:
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
def test_strict_audio_names_what_it_refuses(tmp_path: Path, rate: int, channels: int) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.repeat(tone(440, 0.1, rate)[:, None], channels, axis=1), rate)
    with pytest.raises(UnusableAudioError) as caught:
        read_audio(path, RATE, strict=True)
    assert str(caught.value) == (
        f"not 16000 Hz mono (strict audio): {rate} Hz, channels {channels}"
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
def test_unusual_waves_are_flagged_and_their_features_finite(
    tmp_path: Path, wave: NDArray[np.float32], flags: tuple[str, ...]
) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, wave, RATE, subtype="FLOAT")
    audio = read_audio(path, RATE)
    assert audio.flags == flags
    for settings in (*BOTH.features, FbankSettings(amplitude="int16")):
        features = extract(audio.wave, settings)
        assert np.isfinite(features.astype(np.float16)).all()


def library_flacs(shared: Path) -> list[Path]:
    return sorted((shared / "data/LibriSpeech").rglob("*.flac"))[:20]


def by_soundfile(path: Path) -> NDArray[np.float32]:
    samples: NDArray[np.float32] = soundfile.read(path, dtype="float32", always_2d=True)[0]
    return samples


def by_fast_path(source: Path) -> NDArray[np.float32] | None:
    with open_recording(source) as recording:
        decoded = decode_fast(recording, examine(recording))
    return None if decoded is None else decoded[0]


def test_librispeech_is_decoded_as_soundfile_does(shared: Path) -> None:
    for path in library_flacs(shared):
        found = by_fast_path(path)
        assert found is not None
        np.testing.assert_array_equal(found, by_soundfile(path), strict=True)
        np.testing.assert_array_equal(read_audio(path, RATE).wave, by_soundfile(path)[:, 0])


@pytest.mark.parametrize("level", [0.0, 0.3, 0.5, 0.7, 1.0])  # of compression, with it blocks
@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize("samples", [1, 15, 4_096, 4_097, 50_001])
def test_any_flac_of_16_bits_is_decoded_as_soundfile_does(
    tmp_path: Path, samples: int, channels: int, level: float
) -> None:
    path = tmp_path / "a.flac"
    rng = np.random.default_rng(samples + channels)
    numbers = rng.integers(-32_768, 32_768, (samples, channels), dtype=np.int16)
    numbers[samples // 2 :] //= 512
    soundfile.write(path, numbers, 44_100, compression_level=level)
    found = by_fast_path(path)
    assert found is not None
    np.testing.assert_array_equal(found, by_soundfile(path), strict=True)


@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize("samples", [1, 15, 50_001])
def test_any_wav_of_16_bits_is_decoded_as_soundfile_does(
    tmp_path: Path, samples: int, channels: int
) -> None:
    path = tmp_path / "a.wav"
    rng = np.random.default_rng(samples + channels)
    numbers = rng.integers(-32_768, 32_768, (samples, channels), dtype=np.int16)
    soundfile.write(path, numbers, RATE, format="WAV")
    found = by_fast_path(path)
    assert found is not None
    np.testing.assert_array_equal(found, by_soundfile(path), strict=True)


def test_a_wav_with_text_before_its_samples_is_decoded_as_soundfile_does(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(0.1), RATE, subtype="PCM_16")
    raw = path.read_bytes()
    text = b"LIST" + struct.pack("<I", 7) + b"INFOabc" + b"\0"  # chunks are padded to be even
    larger = struct.unpack("<I", raw[4:8])[0] + len(text)
    path.write_bytes(raw[:4] + struct.pack("<I", larger) + raw[8:36] + text + raw[36:])
    found = by_fast_path(path)
    assert found is not None
    np.testing.assert_array_equal(found, by_soundfile(path), strict=True)


@pytest.mark.parametrize(
    ("container", "subtype"),
    [("FLAC", "PCM_24"), ("WAV", "PCM_24"), ("WAV", "FLOAT"), ("WAV", "ULAW"), ("AIFF", "PCM_16")],
)
def test_formats_without_a_fast_path_are_decoded_by_soundfile(
    tmp_path: Path, container: str, subtype: str
) -> None:
    path = tmp_path / "a"
    soundfile.write(path, noise(0.1), RATE, format=container, subtype=subtype)
    assert by_fast_path(path) is None
    np.testing.assert_array_equal(read_audio(path, RATE).wave, by_soundfile(path)[:, 0])


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("fault", ["half", "seven bytes", "2 kB"])
def test_a_flac_is_refused_or_decoded_correctly(tmp_path: Path, fault: str, seed: int) -> None:
    path = tmp_path / "a.flac"
    rng = np.random.default_rng(seed)
    soundfile.write(path, noise(1 + seed / 7), RATE)
    whole, raw = by_soundfile(path), bytearray(path.read_bytes())
    if fault == "half":
        raw = raw[: len(raw) // 2]
    elif fault == "seven bytes":
        raw = raw[:-7]
    else:
        start = int(rng.integers(42, len(raw) - 2_000))
        raw[start : start + 2_000] = rng.bytes(2_000)
    path.write_bytes(raw)
    assert by_fast_path(path) is None
    for source in (path, bytes(raw)):
        with pytest.raises(UnusableAudioError, match="cut off|cannot be decoded"):
            read_audio(source, RATE)
    assert len(whole) > RATE - 1


@pytest.mark.parametrize("seed", range(20))
def test_a_flipped_bit_in_a_flac_never_changes_a_sample(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "a.flac"
    rng = np.random.default_rng(seed)
    soundfile.write(path, noise(0.7), RATE)
    whole, raw = by_soundfile(path), bytearray(path.read_bytes())
    raw[int(rng.integers(200, len(raw)))] ^= 1 << int(rng.integers(8))
    path.write_bytes(raw)
    try:
        wave = read_audio(path, RATE).wave
    except UnusableAudioError:
        return
    np.testing.assert_array_equal(wave, whole[:, 0])


def test_a_flac_with_fewer_samples_than_it_announces_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, noise(1), RATE)
    raw = bytearray(path.read_bytes())
    raw[22:26] = (RATE + 5).to_bytes(4, "big")
    path.write_bytes(raw)
    with pytest.raises(UnusableAudioError):
        read_audio(path, RATE)


def test_a_header_that_announces_too_much_for_its_file_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, noise(1), RATE)
    raw = bytearray(path.read_bytes())
    raw[21] |= 0x0F
    raw[22:26] = b"\xff" * 4
    path.write_bytes(raw)
    with pytest.raises(UnusableAudioError) as caught:
        read_audio(path, RATE)
    assert str(caught.value) == (
        f"cannot hold the announced samples: {2**36 - 1} in {len(raw)} bytes"
    )


@pytest.mark.parametrize("container", ["WAV", "FLAC", "OGG", "MP3", "AIFF"])
def test_bytes_are_read_as_the_file_that_holds_them(tmp_path: Path, container: str) -> None:
    path = tmp_path / "a"
    soundfile.write(path, noise(0.5), 22_050, format=container)
    there, here = read_audio(path, RATE), read_audio(path.read_bytes(), RATE)
    np.testing.assert_array_equal(there.wave, here.wave)
    assert (here.source_sample_rate, here.flags) == (22_050, ("resampled",))


@pytest.mark.parametrize("content", [b"", b"<html>", b"fLaC", b"RIFF", bytes(5_000)])
def test_bytes_that_are_no_audio_are_refused(content: bytes) -> None:
    with pytest.raises(UnusableAudioError, match="is empty|cannot be decoded"):
        read_audio(content, RATE)


@pytest.mark.parametrize("container", ["WAV", "FLAC", "AIFF"])
@pytest.mark.parametrize("span", [(0.25, 0.75), (0.0, 0.5), (0.5, None), (0.0, 1.0)])
def test_a_span_is_the_part_between_two_times(
    tmp_path: Path, container: str, span: tuple[float, float | None]
) -> None:
    path = tmp_path / "a"
    soundfile.write(path, noise(1), RATE, format=container)
    stop = None if span[1] is None else round(span[1] * RATE)
    expected = by_soundfile(path)[round(span[0] * RATE) : stop, 0]
    for source in (path, path.read_bytes()):
        np.testing.assert_array_equal(read_audio(source, RATE, span=span).wave, expected)


@pytest.mark.parametrize(
    ("span", "asked"),
    [
        ((0.5, 1.5), "0.500 s to 1.500 s"),
        ((0.5, 1.06), "0.500 s to 1.060 s"),
        ((1.0, None), "1.000 s to the end"),
        ((0.5, 0.5), "0.500 s to 0.500 s"),
        ((-0.5, 0.5), "-0.500 s to 0.500 s"),
    ],
)
def test_a_span_outside_the_recording_is_refused_with_figures(
    tmp_path: Path, span: tuple[float, float | None], asked: str
) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, noise(1), RATE)
    with pytest.raises(UnusableAudioError) as caught:
        read_audio(path, RATE, span=span)
    assert str(caught.value) == (f"does not contain the requested part: {asked} of 1.000 s")


def test_a_sample_counts_what_its_features_were_made_from(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    wave = np.concatenate((np.zeros(RATE), noise(1), np.zeros(RATE))).astype(np.float32)
    soundfile.write(path, wave, RATE)
    settings = LogMelSettings(wave=WaveSettings(silence=SilenceSettings(edge_ms=0.0)))
    cut = make_sample(utterance(path), PrepareConfig(features=(settings,)))
    assert (cut.samples, cut.flags) == (RATE, ("trimmed",))
    assert len(cut.features["logmel"]) == 101
    whole = make_sample(utterance(path), PrepareConfig(features=(LogMelSettings(),)))
    assert (whole.samples, whole.flags) == (3 * RATE, ())


def test_an_utterance_that_is_a_part_of_a_file_has_its_samples_only(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, noise(2), RATE)
    part = Utterance(
        key="a", split="s", source="a", path=path, size=path.stat().st_size, start=0.5, end=1.25
    )
    sample = make_sample(part, BOTH)
    assert sample.samples == round(0.75 * RATE)
    np.testing.assert_array_equal(
        sample.features["fbank"],
        extract(by_soundfile(path)[RATE // 2 : RATE * 5 // 4, 0], FbankSettings()),
    )


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
@pytest.mark.parametrize("missing", [100, 400, 1_000])
def test_an_mp3_that_lacks_only_its_last_frame_is_refused(
    tmp_path: Path, mode: str, missing: int
) -> None:
    path = tmp_path / "a.mp3"
    soundfile.write(path, noise(2), RATE, bitrate_mode=mode)
    assert len(read_audio(path, RATE).wave) == 2 * RATE
    for tag in (b"", b"ID3\x04\0\0\0\0\x0f\x50" + bytes(2_000)):
        path.write_bytes(tag + path.read_bytes()[:-missing])
        with pytest.raises(
            UnusableAudioError,
            match="cut off: (its last frame of MP3 lacks|.* of 32000 samples decode)",
        ):
            read_audio(path, RATE)


def test_an_end_rounded_past_the_recording_means_its_end(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, noise(0.996), RATE)
    wave = read_audio(path, RATE, span=(0.5, 1.0)).wave
    np.testing.assert_array_equal(wave, by_soundfile(path)[8_000:, 0])


@pytest.mark.parametrize(("peak", "fits"), [(2.0**31, True), (2.2e9, False), (1e25, False)])
def test_samples_beyond_any_scale_are_refused_and_do_not_end_the_run(
    tmp_path: Path, peak: float, fits: bool
) -> None:
    path = tmp_path / "a.wav"
    wave = np.random.default_rng(0).uniform(-peak, peak, RATE).astype(np.float32)
    wave[0] = peak
    soundfile.write(path, wave, RATE, subtype="FLOAT")
    if fits:
        features = make_sample(utterance(path), BOTH).features
        assert all(np.isfinite(each).all() for each in features.values())
        assert all(np.abs(each).max() < 65_504 for each in features.values())
    else:
        with pytest.raises(UnusableAudioError) as caught:
            read_audio(path, RATE)
        assert str(caught.value) == f"holds samples beyond any scale: up to {peak:.3g}"


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ESTALE, errno.ENOENT])
def test_an_error_of_the_system_ends_the_run_and_skips_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(RATE), RATE)

    def refuse(recording: object, start: int, count: int) -> bytes:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(recording_module.Recording, "read", refuse)
    with pytest.raises(InputError) as caught:
        read_audio(path, RATE)
    assert str(caught.value) == (
        f"{path} cannot be read now ({os.strerror(number)}): run the same command again when it "
        "can, finished work is kept"
    )


def test_a_file_that_may_not_be_read_is_refused_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(RATE), RATE)

    def refuse(recording: object, start: int, count: int) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(recording_module.Recording, "read", refuse)
    with pytest.raises(UnusableAudioError, match="^cannot be read: Permission denied$"):
        read_audio(path, RATE)


HASH = """
import hashlib, pathlib, sys
from aalbert.pipeline.audio.decode import read_audio
print(hashlib.sha256(read_audio(pathlib.Path(sys.argv[1]), 16_000).wave.tobytes()).hexdigest())
"""


def test_no_environment_variable_changes_resampling(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 48_000), 48_000)
    hashes = {
        subprocess.check_output(
            [sys.executable, "-c", HASH, str(path)], env={**os.environ, **settings}
        )
        for settings in ({}, {"SOXR_USE_SIMD": "0"}, {"SOXR_USE_SIMD32": "0"})
    }
    assert len(hashes) == 1


def test_samples_that_no_memory_can_hold_are_the_fault_of_the_file_that_announces_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not of the machine, which would end a `prepare` of thousands of good files."""

    def read(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("aalbert.pipeline.audio.decode.read_part", read)
    stream = io.BytesIO()
    noise = np.random.default_rng(0).uniform(-1, 1, RATE)
    soundfile.write(stream, noise, RATE, "PCM_24", format="FLAC")
    content = bytearray(stream.getvalue())
    with pytest.raises(MemoryError):
        read_audio(bytes(content), RATE)
    content[22:26] = b"\x7f\xff\xff\xff"
    with pytest.raises(UnusableAudioError, match="than this machine can hold: 2147483647 in"):
        read_audio(bytes(content), RATE)
    monkeypatch.setattr("aalbert.pipeline.audio.decode.source_for", read)
    with pytest.raises(MemoryError):
        read_audio(bytes(content), RATE)
