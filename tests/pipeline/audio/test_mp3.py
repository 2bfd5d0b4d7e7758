"""Parts of MP3s: the very samples of the whole, wherever they begin, and no more decoded."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from aalbert.pipeline.audio import mp3
from aalbert.pipeline.audio.containers.examine import examine
from aalbert.pipeline.audio.containers.mp3 import read_header, streams_of_file
from aalbert.pipeline.audio.decode import WHOLE, Span, decode
from aalbert.pipeline.audio.recording import open_recording

SAMPLES = 120_000


def encoded(rate: int, channels: int, mode: str, *, counted: bool, level: float = 0.5) -> bytes:
    """Noise that is loud and quiet in turn, so that frames borrow data from others."""
    generator = np.random.default_rng([rate, channels])
    loudness = np.repeat(generator.uniform(0, 1, SAMPLES // 1_000), 1_000)[:, None] ** 6
    wave = generator.uniform(-0.5, 0.5, (SAMPLES, channels)) * loudness
    stream = io.BytesIO()
    soundfile.write(stream, wave, rate, format="MP3", bitrate_mode=mode, compression_level=level)
    content = stream.getvalue()
    header = read_header(content[:4])
    assert header is not None
    return content if counted else content[header[0] :]


def decoded(source: Path | bytes, span: Span) -> NDArray[np.float32]:
    with open_recording(source) as recording:
        return decode(recording, span)[0]


def starts_of(content: bytes, samples: int) -> list[int]:
    """The beginning, places at and around borders of frames, and others."""
    with open_recording(content) as recording:
        frames = examine(recording).mp3
    assert frames is not None
    borders = [frames.frame_samples * number - frames.start for number in (2, 3, 8, 9, 16, 33, 70)]
    around = [border + shift for border in borders for shift in (-1, 0, 1)]
    others = np.random.default_rng(1).integers(0, samples - 900, 6).tolist()
    return [0, 1, samples - 800, *(start for start in [*around, *others] if start >= 0)]


@pytest.mark.parametrize("counted", [True, False], ids=["counted", "bare"])
@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [16_000, 44_100])  # of MPEG 2 and of MPEG 1
def test_a_part_has_the_samples_of_the_whole(
    rate: int, channels: int, mode: str, *, counted: bool
) -> None:
    content = encoded(rate, channels, mode, counted=counted)
    whole = decoded(content, WHOLE)
    assert whole.shape[1] == channels and len(whole) >= SAMPLES
    for start in starts_of(content, len(whole)):
        for stop in (start + 1, min(start + 3_000, len(whole))):
            part = decoded(content, (start / rate, stop / rate))
            np.testing.assert_array_equal(part, whole[start:stop], strict=True)


@pytest.mark.parametrize("counted", [True, False], ids=["counted", "bare"])
def test_a_part_of_the_lowest_bitrate_whose_frames_borrow_far_back(*, counted: bool) -> None:
    content = encoded(16_000, 1, "CONSTANT", counted=counted, level=0.99)
    whole = decoded(content, WHOLE)
    for start in starts_of(content, len(whole)):
        part = decoded(content, (start / 16_000, (start + 700) / 16_000))
        np.testing.assert_array_equal(part, whole[start : start + 700])


def test_an_mp3_that_was_cut_out_of_another_keeps_all_its_frames() -> None:
    content = encoded(16_000, 1, "CONSTANT", counted=False)
    header = read_header(content[:4])
    assert header is not None
    whole, cut = decoded(content, WHOLE), decoded(content[header[0] :], WHOLE)
    assert len(cut) == len(whole) - 576
    np.testing.assert_array_equal(cut[-100_000:], whole[-100_000:])


@pytest.mark.parametrize("counted", [True, False], ids=["counted", "bare"])
def test_a_part_is_decoded_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, counted: bool
) -> None:
    path = tmp_path / "a.mp3"
    path.write_bytes(encoded(44_100, 1, "CONSTANT", counted=counted))
    name = "by_libsndfile" if counted else "by_miniaudio"
    decoder, sizes = getattr(mp3, name), []

    def measured(content: bytes) -> NDArray[np.float32]:
        samples: NDArray[np.float32] = decoder(content)
        sizes.append(len(samples))
        return samples

    monkeypatch.setattr(mp3, name, measured)
    decoded(path, (2.0, 2.1))
    assert 4_410 <= sizes.pop() < 4_410 + 20 * 1_152


def test_a_file_is_walked_once_until_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    path.write_bytes(encoded(16_000, 1, "CONSTANT", counted=True))
    streams_of_file.cache_clear()
    first = decoded(path, (1.0, 1.5))
    decoded(path, (2.0, 2.5))
    assert streams_of_file.cache_info().misses == 1
    path.write_bytes(encoded(16_000, 1, "VARIABLE", counted=True))
    os.utime(path, ns=(0, 0))
    assert not np.array_equal(decoded(path, (1.0, 1.5)), first)
    assert streams_of_file.cache_info().misses == 2
