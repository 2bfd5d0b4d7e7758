import io
import os
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from aalbert.common.files import TEMPORARY_SUFFIX
from aalbert.errors import InputError
from aalbert.shards.format.tar import TarWriter, member_header
from aalbert.shards.format.writer import LARGEST_HALF, Sample, npy_header, to_half, write_shard


def make_sample(key: str, frames: int, seed: int) -> Sample:
    rng = np.random.default_rng(seed)
    return Sample(
        key=key,
        split="train",
        speaker="7",
        samples=160 * frames,
        source=f"7/{key}.flac",
        source_sample_rate=16_000,
        source_channels=1,
        features={
            name: rng.normal(-5, 3, (frames, dims)).astype(np.float32)
            for name, dims in (("logmel", 80), ("fbank", 40))
        },
        fields={"text": "ÄÖÜ = 1"},
    )


SAMPLES = [make_sample("7-1-0001", 31, 1), make_sample("7-1-0002", 1, 2)]


def write(path: Path) -> list[dict[str, Any]]:
    table = write_shard(
        path, SAMPLES, shard=5, feature_dims={"logmel": 80, "fbank": 40}, fields=["text"]
    )
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path, "r:") as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]


@pytest.fixture
def foreign_time_zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Kathmandu")
        time.tzset()
        yield
    time.tzset()


@given(st.lists(st.binary(max_size=1500), max_size=5))
@settings(max_examples=50, deadline=None)
def test_tarfile_reads_back_any_payloads(payloads: list[bytes]) -> None:
    stream = io.BytesIO()
    writer = TarWriter(stream)
    offsets = [writer.add(f"a-{number}.bin", payload) for number, payload in enumerate(payloads)]
    writer.finish()
    raw = stream.getvalue()
    with tarfile.open(fileobj=io.BytesIO(raw), mode="r:") as tar:
        read = [tar.extractfile(member).read() for member in tar]  # type: ignore[union-attr]
    assert read == payloads
    assert [raw[o : o + len(p)] for o, p in zip(offsets, payloads, strict=True)] == payloads


def test_members_carry_no_clock_owner_or_mode_of_this_machine(tmp_path: Path) -> None:
    write(tmp_path / "a.tar")
    with tarfile.open(tmp_path / "a.tar", "r:") as tar:
        described = {(m.mtime, m.uid, m.gid, m.mode, m.uname, m.gname, m.type) for m in tar}
    assert described == {(0, 0, 0, 0o644, "", "", tarfile.REGTYPE)}


def test_members_of_an_utterance_lie_together_under_its_key(tmp_path: Path) -> None:
    write(tmp_path / "a.tar")
    assert list(members(tmp_path / "a.tar")) == [
        f"7-1-000{number}.{end}" for number in (1, 2) for end in ("fbank.npy", "logmel.npy", "json")
    ]


def test_arrays_start_at_multiples_of_64_bytes(tmp_path: Path) -> None:
    rows = write(tmp_path / "a.tar")
    assert {row[f"{name}_offset"] % 64 for row in rows for name in ("logmel", "fbank")} == {0}


@pytest.mark.parametrize("name", ["logmel", "fbank"])
def test_the_index_points_at_what_numpy_loads_from_the_member(tmp_path: Path, name: str) -> None:
    rows = write(tmp_path / "a.tar")
    raw = (tmp_path / "a.tar").read_bytes()
    for row, sample in zip(rows, SAMPLES, strict=True):
        payload = members(tmp_path / "a.tar")[f"{sample.key}.{name}.npy"]
        loaded = np.load(io.BytesIO(payload), allow_pickle=False)
        start, size = row[f"{name}_offset"], row[f"{name}_bytes"]
        there = np.frombuffer(raw[start : start + size], "<f2").reshape(loaded.shape)
        np.testing.assert_array_equal(there, loaded, strict=True)
        np.testing.assert_array_equal(loaded, sample.features[name].astype(np.float16))
        assert row[f"{name}_frames"] == len(loaded)


def test_the_index_holds_mean_and_deviation_of_what_is_stored(tmp_path: Path) -> None:
    row = write(tmp_path / "a.tar")[0]
    stored = SAMPLES[0].features["logmel"].astype(np.float16).astype(np.float64)
    np.testing.assert_allclose(row["logmel_mean"], stored.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(row["logmel_std"], stored.std(axis=0), rtol=1e-6)


def test_a_shard_is_the_same_under_another_umask_time_zone_and_time(
    tmp_path: Path, foreign_time_zone: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "there.tar")
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    monkeypatch.setattr(time, "time", lambda: 2_000_000_000.0)
    before = os.umask(0o077)
    try:
        write(tmp_path / "here.tar")
    finally:
        os.umask(before)
    assert (tmp_path / "here.tar").read_bytes() == (tmp_path / "there.tar").read_bytes()


def test_a_shard_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    def failing() -> Iterator[Sample]:
        yield SAMPLES[0]
        raise RuntimeError("disk on fire")

    with pytest.raises(RuntimeError, match="disk on fire"):
        write_shard(
            tmp_path / "a.tar",
            failing(),
            shard=0,
            feature_dims={"logmel": 80, "fbank": 40},
            fields=["text"],
        )
    assert list(tmp_path.iterdir()) == []


def test_a_shard_has_its_name_only_when_complete(tmp_path: Path) -> None:
    def watching() -> Iterator[Sample]:
        yield SAMPLES[0]
        [path] = tmp_path.iterdir()
        assert path.name.startswith("a.tar.") and path.suffix == TEMPORARY_SUFFIX

    write_shard(
        tmp_path / "a.tar",
        watching(),
        shard=0,
        feature_dims={"logmel": 80, "fbank": 40},
        fields=["text"],
    )
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]


@given(arrays(np.dtype("<f2"), array_shapes(min_dims=2, max_dims=2, min_side=0)))
@settings(max_examples=100, deadline=None)
def test_numpy_decodes_what_was_encoded(array: NDArray[np.float16]) -> None:
    payload = npy_header(array.shape) + array.tobytes()
    decoded = np.load(io.BytesIO(payload), allow_pickle=False)
    assert decoded.dtype == array.dtype
    assert decoded.shape == array.shape
    assert decoded.tobytes() == array.tobytes()


@given(st.text("abcXYZ019-_", min_size=1, max_size=85), st.integers(0, 2**33 - 1))
@settings(max_examples=200, deadline=None)
def test_a_member_has_the_header_that_tarfile_gives(key: str, size: int) -> None:
    member = tarfile.TarInfo(f"{key}.logmel.npy")
    member.size, member.mode = size, 0o644
    assert member_header(member.name, size) == member.tobuf(tarfile.USTAR_FORMAT, "utf-8")


@pytest.mark.parametrize("shape", [(0, 80), (1, 80), (1_234, 80), (999_999_999, 4_096), (7, 1)])
def test_an_array_has_the_header_that_numpy_gives(shape: tuple[int, int]) -> None:
    stream = io.BytesIO()
    described = {"descr": "<f2", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, described)
    assert npy_header(shape) == stream.getvalue()


def test_a_number_that_cannot_be_stored_is_refused_by_name(tmp_path: Path) -> None:
    sample = make_sample("a-1", 5, 1)
    sample.features["fbank"][3, 1] = 1e9
    with pytest.raises(InputError) as caught:
        write_shard(
            tmp_path / "a.tar",
            [sample],
            shard=0,
            feature_dims={"logmel": 80, "fbank": 40},
            fields=["text"],
        )
    assert str(caught.value) == (
        "feature 'fbank' of a-1 cannot be stored: float16 holds up to 65504, not 1000000000.0; "
        "change its settings"
    )
    assert list(tmp_path.iterdir()) == []


def as_rows(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The values as frames of one dimension."""
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
