from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from aalbert.kernel import native
from aalbert.pipeline.audio.features import extract, roots_of_unity
from aalbert.shards.format.feature_settings import (
    FbankSettings,
    FeatureSettings,
    LinearSettings,
    LogMelSettings,
    MfccSettings,
)
from aalbert.shards.format.writer import to_half

VARIANTS = native.variants()
SETTINGS: list[FeatureSettings] = [
    LogMelSettings(),
    LogMelSettings(fft_size=2046, mels=23),
    LinearSettings(fft_size=406),  # 203 = 7 * 29
    FbankSettings(amplitude="int16"),
    MfccSettings(),
]
Array = NDArray[np.float32]


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> Iterator[str]:
    native.select_variant(request.param)
    yield request.param
    native.select_variant(VARIANTS[0])


def arguments(size: int = 8, frames: int = 3, **changes: Any) -> dict[str, Any]:
    """A correct call: frames that touch, no filters."""
    return {
        "wave": np.random.default_rng(size).normal(0, 1, size * frames).astype(np.float32),
        "window": np.ones(size, np.float32),
        "roots": roots_of_unity(size),
        "mel_spans": np.empty((0, 2), np.int32),
        "mel_weights": np.empty(0, np.float32),
        "cosine_spans": np.empty((0, 2), np.int32),
        "cosine_weights": np.empty(0, np.float32),
        "out": np.empty((frames, size // 2 + 1), np.float32),
        "first": 0,
        "shift": size,
        "pre_emphasis": 0.0,
        "floor": 0.0,
        "offset": 0.0,
        **changes,
    }


def compute(**changes: Any) -> Array:
    given = arguments(**changes)
    native.spectra(**given)
    out: Array = given["out"]
    return out


def logarithms(values: Array) -> Array:
    """Those of the numbers by which filters of one bin multiply a spectrum of 1."""
    spans = np.tile(np.array([0, 1], np.int32), (len(values), 1))
    return compute(
        size=2,
        wave=np.array([1, 0], np.float32),
        frames=1,
        mel_spans=spans,
        mel_weights=values,
        out=np.empty((1, len(values)), np.float32),
    ).reshape(-1)


def ulps(found: Array, exact: NDArray[np.float64]) -> NDArray[np.float64]:
    """The distance in units of the last place of float32."""
    return np.abs(found - exact) / np.spacing(np.abs(exact).astype(np.float32))


def test_the_spectrum_of_every_even_size_is_that_of_numpy(variant: str) -> None:
    for size in [*range(2, 602, 2), 2046]:
        given = arguments(size=size, frames=19)
        native.spectra(**given)
        exact = np.abs(np.fft.rfft(given["wave"].reshape(19, size).astype(np.float64)))
        error = np.linalg.norm(np.exp(given["out"].astype(np.float64) / 2) - exact)
        assert error < 1e-5 * np.linalg.norm(exact), size


def test_logarithms_are_within_1_ulp_at_every_exponent(variant: str) -> None:
    mantissas = np.random.default_rng(0).integers(0, 2**23, 1_000)
    edges = np.array([0, 1, 0x3504F2, 0x3504F3, 0x3504F4, 2**23 - 1])
    bits = np.arange(255)[:, None] << 23 | np.concatenate((edges, mantissas))
    values = bits[bits > 0].astype(np.uint32).view(np.float32)
    assert values.min() == 2.0**-149 and values.max() == np.finfo(np.float32).max
    assert ulps(logarithms(values), np.log(values.astype(np.float64))).max() < 1


def test_logarithms_next_to_1_are_within_1_ulp(variant: str) -> None:
    values = (np.arange(-5_000, 5_000) + 0x3F800000).astype(np.uint32).view(np.float32)
    values = values[values != 1]
    assert ulps(logarithms(values), np.log(values.astype(np.float64))).max() < 1
    np.testing.assert_array_equal(logarithms(np.ones(1, np.float32)), [0])


def test_logarithms_of_zero_infinity_and_nan_are_those_of_ieee_754(variant: str) -> None:
    found = logarithms(np.array([0, np.inf, np.nan], np.float32))
    np.testing.assert_array_equal(found, np.array([-np.inf, np.inf, np.nan], np.float32))


def in_every_variant(work: Callable[[], Any]) -> list[Any]:
    results = []
    for name in VARIANTS:
        native.select_variant(name)
        results.append(work())
    native.select_variant(VARIANTS[0])
    return results


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: settings.kind)
def test_every_instruction_set_gives_the_same_bytes(settings: FeatureSettings) -> None:
    rng = np.random.default_rng(1)
    for samples in (400, 5_000, 16_161):
        wave = (rng.normal(0, 0.1, samples) + 0.01).astype(np.float32)
        features = in_every_variant(partial(extract, wave, settings))
        assert len({each.tobytes() for each in features}) == 1
        halves = in_every_variant(partial(to_half, features[0]))
        stored = {(h.values.tobytes(), h.mean.tobytes(), h.std.tobytes()) for h in halves}
        assert len(stored) == 1


@pytest.mark.parametrize("dims", [1, 3, 8, 21])
def test_float16_is_rounded_as_numpy_does_in_every_column(variant: str, dims: int) -> None:
    rng = np.random.default_rng(dims)
    sizes = 2.0 ** rng.uniform(-30, 15.9, (300, dims))
    half = to_half((sizes * rng.choice([-1, 1], sizes.shape)).astype(np.float32))
    assert_statistics(half.values, half.mean, half.std)
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    every = halves[np.isfinite(halves)][: 2**16 // 32 // dims * 31 * dims].reshape(-1, dims)
    found = to_half(every.astype(np.float32)).values
    np.testing.assert_array_equal(found.view(np.uint16), every.view(np.uint16))


def assert_statistics(values: NDArray[np.float16], mean: Array, std: Array) -> None:
    stored = values.astype(np.float64)
    np.testing.assert_allclose(mean, stored.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(std, stored.std(axis=0), rtol=1e-5)


def test_every_16_bit_sample_becomes_its_fraction(variant: str) -> None:
    numbers = np.arange(-(2**15), 2**15).astype(np.int16)
    out = np.empty(2**16, np.float32)
    native.scale_samples(numbers, out)
    np.testing.assert_array_equal(out, numbers / 32_768)


def test_nothing_beside_the_wave_is_read_and_nothing_beside_the_output_written(
    variant: str,
) -> None:
    for samples in range(400, 440):
        around = np.full(samples + 64, np.nan, np.float32)
        wave = around[32:-32]
        wave[:] = np.random.default_rng(samples).normal(0, 0.1, samples)
        for settings in SETTINGS:
            assert np.isfinite(extract(wave, settings)).all()
    frame = np.full((5, 5), 7, np.float32)
    native.spectra(**arguments(out=frame[1:4]))
    np.testing.assert_array_equal(frame[[0, 4]], 7)
    assert not (frame[1:4] == 7).any()


def test_no_frames_are_no_work(variant: str) -> None:
    assert compute(out=np.empty((0, 5), np.float32)).shape == (0, 5)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "float64 wave": (
        {"wave": np.zeros(24)},
        "wave must have format 'f' and 1 dimensions, not 'd' and 1",
    ),
    "two dimensions": (
        {"wave": np.zeros((3, 8), np.float32)},
        "wave must have format 'f' and 1 dimensions, not 'f' and 2",
    ),
    "gaps": ({"wave": np.zeros(48, np.float32)[::2]}, "wave must be a contiguous buffer"),
    "no buffer": ({"window": [1.0] * 8}, "window must be a contiguous buffer"),
    "other byte order": (
        {"wave": np.zeros(24, ">f4")},
        "wave must have format 'f' and 1 dimensions, not '>f' and 1",
    ),
    "odd size": (
        {"roots": np.zeros((7, 2), np.float32)},
        "roots must be (fft_size, 2), for an even size",
    ),
    "no roots": (
        {"roots": np.zeros((0, 2), np.float32)},
        "roots must be (fft_size, 2), for an even size",
    ),
    "long window": (
        {"window": np.ones(9, np.float32)},
        "window must have 1 to fft_size samples",
    ),
    "no window": ({"window": np.ones(0, np.float32)}, "window must have 1 to fft_size samples"),
    "empty wave": (
        {"wave": np.zeros(0, np.float32)},
        "wave and out must have 1 to 2**31 - 1 samples and frames",
    ),
    "late first": (
        {"first": 1},
        "first must be at most 0 and within the reflected wave, shift above 0",
    ),
    "early first": (
        {"first": -24},
        "first must be at most 0 and within the reflected wave, shift above 0",
    ),
    "no shift": (
        {"shift": 0},
        "first must be at most 0 and within the reflected wave, shift above 0",
    ),
    "too many frames": (
        {"out": np.zeros((7, 5), np.float32)},
        "frames reach beyond the reflected wave",
    ),
    "too few columns": (
        {"out": np.zeros((3, 4), np.float32)},
        "out must have a column for every feature",
    ),
    "span after the last bin": (
        {"mel_spans": np.array([[4, 2]], np.int32), "mel_weights": np.ones(2, np.float32)},
        "a span reaches beyond what it weighs",
    ),
    "negative span": (
        {"mel_spans": np.array([[-1, 2]], np.int32), "mel_weights": np.ones(2, np.float32)},
        "a span reaches beyond what it weighs",
    ),
    "negative length": (
        {"cosine_spans": np.array([[1, -1]], np.int32)},
        "a span reaches beyond what it weighs",
    ),
    "missing weights": (
        {"mel_spans": np.array([[0, 2]], np.int32), "mel_weights": np.ones(1, np.float32)},
        "spans and weights do not belong together",
    ),
    "spans of three": (
        {"mel_spans": np.zeros((1, 3), np.int32)},
        "spans must be pairs of start and length",
    ),
}


@pytest.mark.parametrize(("changes", "reason"), WRONG.values(), ids=WRONG)
def test_a_wrong_call_is_refused_with_its_reason(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError) as caught:
        native.spectra(**arguments(**changes))
    assert str(caught.value) == reason


def test_an_output_that_may_not_be_written_is_refused() -> None:
    out = np.zeros((3, 5), np.float32)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="out must be a contiguous, writable buffer"):
        native.spectra(**arguments(out=out))


def test_outputs_of_another_shape_are_refused() -> None:
    values, statistics = np.zeros((3, 4), np.float32), np.zeros((2, 4))
    with pytest.raises(ValueError, match="halves must have the shape of values"):
        native.round_to_half(values, np.zeros((4, 4), np.float16), statistics)
    with pytest.raises(ValueError, match=r"statistics must be \(2, dims\)"):
        native.round_to_half(values, np.zeros((3, 4), np.float16), np.zeros((3, 4)))
    with pytest.raises(ValueError, match="out must be as long as numbers"):
        native.scale_samples(np.zeros(3, np.int16), np.zeros(2, np.float32))


def test_an_unknown_instruction_set_is_refused() -> None:
    with pytest.raises(ValueError, match="this processor has no variant 'sse9'"):
        native.select_variant("sse9")
