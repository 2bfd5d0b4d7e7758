import numpy as np
import pytest
from numpy.typing import NDArray

from aalbert.shards.format.writer import LARGEST_HALF, to_half


def as_rows(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """One value and many beside it, so that rare layouts are met alone and together."""
    return values.astype(np.float32).reshape(-1, 1)


def all_halves() -> NDArray[np.float32]:
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    return halves[np.isfinite(halves)].astype(np.float32)


def assert_rounded_as_numpy_does(values: NDArray[np.float32]) -> None:
    found = to_half(values).values
    expected = values.astype(np.float16)
    np.testing.assert_array_equal(found.view(np.uint16), expected.view(np.uint16))


def test_every_half_is_stored_as_itself() -> None:
    assert_rounded_as_numpy_does(as_rows(all_halves()))
    for block in np.split(all_halves(), 248):
        assert_rounded_as_numpy_does(block.reshape(1, -1))


@pytest.mark.parametrize("towards", [-np.inf, np.inf])
def test_neighbours_of_every_half_round_to_it(towards: float) -> None:
    assert_rounded_as_numpy_does(as_rows(np.nextafter(all_halves(), np.float32(towards))[1:-1]))


@pytest.mark.parametrize("towards", [-np.inf, 0, np.inf])
def test_ties_and_what_is_next_to_them_round_as_ieee_754_says(towards: float) -> None:
    halves = np.sort(all_halves())
    ties = ((halves[1:].astype(np.float64) + halves[:-1]) / 2).astype(np.float32)
    values = ties if towards == 0 else np.nextafter(ties, np.float32(towards))
    assert_rounded_as_numpy_does(as_rows(values))
    normal = values[np.abs(values) > 2**-13]
    assert_rounded_as_numpy_does(normal[: len(normal) // 8 * 8].reshape(-1, 8))


def test_random_numbers_of_all_sizes_round_as_numpy_does() -> None:
    rng = np.random.default_rng(0)
    sizes = 2.0 ** rng.uniform(-40, 15.9, (20_000, 8))
    assert_rounded_as_numpy_does((sizes * rng.choice([-1, 1], sizes.shape)).astype(np.float32))
    assert_rounded_as_numpy_does(rng.normal(-6, 3, (5_000, 80)).astype(np.float32))


@pytest.mark.parametrize("value", [65_520.0, -65_520.0, 1e30, np.inf, -np.inf, np.nan])
def test_what_float16_cannot_hold_is_refused(value: float) -> None:
    features = np.ones((3, 4), np.float32)
    features[1, 2] = value
    with pytest.raises(OverflowError) as caught:
        to_half(features)
    assert str(caught.value) == f"float16 holds up to 65504, not {float(np.float32(value))}"


@pytest.mark.parametrize("bits", [0x7F800001, 0x7FBFFFFF, 0x7FFFFFFF, 0xFFC00000, 0xFFFFFFFF])
def test_no_nan_of_any_bits_is_stored(bits: int) -> None:
    features = np.full((3, 4), bits, np.uint32).view(np.float32)
    with pytest.raises(OverflowError, match="float16 holds up to 65504, not nan"):
        to_half(features)


def test_the_largest_half_and_what_rounds_to_it_are_stored() -> None:
    features = np.array([[LARGEST_HALF, -LARGEST_HALF, 65_519.0]], np.float32)
    np.testing.assert_array_equal(to_half(features).values, [[65_504, -65_504, 65_504]])


@pytest.mark.parametrize("frames", [1, 2, 255, 256, 257, 3_000])
@pytest.mark.parametrize(("mean", "std"), [(-6, 3), (-15, 0.01), (0, 1), (100, 1e-3), (0, 1e-7)])
def test_mean_and_deviation_are_those_of_the_stored_numbers(
    frames: int, mean: float, std: float
) -> None:
    rng = np.random.default_rng(frames)
    half = to_half(rng.normal(mean, std, (frames, 12)).astype(np.float32))
    stored = half.values.astype(np.float64)
    np.testing.assert_allclose(half.mean, stored.mean(axis=0), rtol=1e-5, atol=1e-5 * std)
    # Where the numbers hardly differ, the float32 of their centre is what limits it.
    resolution = 1e-6 * abs(mean) + 1e-4 * std if std < 0.1 else 0
    np.testing.assert_allclose(half.std, stored.std(axis=0), rtol=1e-5, atol=resolution)


def test_a_speaker_who_starts_after_silence_has_an_exact_deviation() -> None:
    rng = np.random.default_rng(1)
    features = rng.normal(-4, 2, (4_000, 80)).astype(np.float32)
    features[:300] = np.log(1e-10)
    half = to_half(features)
    stored = half.values.astype(np.float64)
    np.testing.assert_allclose(half.mean, stored.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(half.std, stored.std(axis=0), rtol=1e-5)


def test_equal_frames_have_no_deviation() -> None:
    half = to_half(np.full((1_000, 3), -23.0259, np.float32))
    np.testing.assert_allclose(half.std, 0, atol=1e-6)


def test_the_features_given_are_not_changed() -> None:
    features = np.random.default_rng(2).normal(0, 1, (300, 7)).astype(np.float32)
    before = features.copy()
    to_half(features)
    np.testing.assert_array_equal(features, before)
