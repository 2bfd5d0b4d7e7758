import io
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from aalbert.errors import ConfigError, IntegrityError
from aalbert.pipeline.audio.features import extract
from aalbert.pipeline.corpora.librispeech import read_librispeech
from aalbert.pipeline.prepare.config import PrepareConfig
from aalbert.pipeline.prepare.engine import LocalEngine
from aalbert.pipeline.prepare.prepare import PrepareLimits, prepare
from aalbert.shards import Batch, Dataset, Loader, LoaderConfig, OrderConfig
from aalbert.shards.format.feature_settings import (
    FbankSettings,
    FeatureSettings,
    LinearSettings,
    LogMelSettings,
    MfccSettings,
)
from aalbert.shards.loading.batch_shape import largest_batch_bytes
from aalbert.shards.loading.epoch_plan import make_plan
from aalbert.shards.loading.look_up import LookUp
from aalbert.shards.loading.utterance_table import find_arrays, make_table
from aalbert.shards.reading.compatibility import leading_frames, spare_frames

STORED: tuple[FeatureSettings, ...] = (
    LogMelSettings(mels=20),
    FbankSettings(mels=10),
    LinearSettings(),
    MfccSettings(frame_shift_ms=20.0),
)
PADDED = LoaderConfig(
    order=OrderConfig(frames_per_batch=200, window_shards=2, pool_batches=2),
    targets=("linear",),
    prefetch=0,
)
PACKED = replace(PADDED, order=replace(PADDED.order, packed=True))
STATIC = replace(PADDED, order=replace(PADDED.order, static_lengths=(40, 60, 100)))
CROPPED = replace(PADDED, crop_frames=25)
AHEAD = replace(PADDED, prefetch=2)
KALDI = replace(PADDED, targets=("linear", "fbank"))

Arrays = dict[str, NDArray[np.float16]]


@pytest.fixture(scope="session")
def place(librispeech_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a dataset of four features; read only."""
    out = tmp_path_factory.mktemp("targets") / "data"
    prepare(
        read_librispeech(librispeech_folder),
        out,
        PrepareConfig(features=STORED, shard_bytes=150_000),
        PrepareLimits(engine=LocalEngine(workers=1)),
    )
    return out


@pytest.fixture(scope="session")
def stored(place: Path) -> dict[str, Arrays]:
    """Every array by feature and key, read with the standard library and numpy."""
    arrays: dict[str, Arrays] = {}
    for path in place.glob("*/*.tar"):
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                key, *names = member.name.split(".")
                if names[-1] == "npy":
                    payload = tar.extractfile(member).read()  # type: ignore[union-attr]
                    arrays.setdefault(names[0], {})[key] = np.load(io.BytesIO(payload))
    return arrays


def make_loader(place: Path, config: LoaderConfig) -> Loader:
    return Loader(Dataset(place).select(["*"]), config)


def utterances_of(batch: Batch, features: torch.Tensor) -> Iterator[NDArray[np.float16]]:
    """The features of every utterance of a batch, padded or packed; all else must be zero."""
    if features.ndim == 2:
        offsets = batch.offsets.tolist()
        assert offsets[-1] == len(features)
        yield from (features[a:b].numpy() for a, b in zip(offsets, offsets[1:], strict=False))
        return
    for row, length in zip(features, batch.lengths.tolist(), strict=True):
        assert not row[length:].any()
        yield row[:length].numpy()


@pytest.mark.parametrize(
    "config",
    [PADDED, PACKED, STATIC, AHEAD, replace(PACKED, prefetch=2, readers=2)],
    ids=["padded", "packed", "static", "ahead", "packed ahead"],
)
def test_a_batch_carries_the_targets_of_its_utterances_laid_out_as_its_features(
    place: Path, stored: dict[str, Arrays], config: LoaderConfig
) -> None:
    keys = Dataset(place).column("key")
    seen = 0
    for batch in make_loader(place, config):
        assert list(batch.targets) == ["linear"]
        linear = batch.targets["linear"]
        assert linear.dtype == torch.float16
        assert linear.shape == (*batch.features.shape[:-1], 201)
        assert batch.longest == batch.lengths.max()
        pairs = zip(
            *(utterances_of(batch, batch.features), utterances_of(batch, linear)),
            batch.rows.tolist(),
            strict=True,
        )
        for features, target, row in pairs:
            if row >= 0:
                np.testing.assert_array_equal(features, stored["logmel"][str(keys[row])])
                np.testing.assert_array_equal(target, stored["linear"][str(keys[row])])
                seen += 1
    assert seen == len(keys)


def test_the_crop_of_a_target_is_that_of_the_features(
    place: Path, stored: dict[str, Arrays]
) -> None:
    keys = Dataset(place).column("key")
    starts = set()
    for batch in make_loader(place, CROPPED):
        linear = utterances_of(batch, batch.targets["linear"])
        for row, features, target in zip(
            batch.rows.tolist(), utterances_of(batch, batch.features), linear, strict=True
        ):
            whole = stored["logmel"][str(keys[row])]
            [start] = [
                at
                for at in range(len(whole) - len(features) + 1)
                if np.array_equal(whole[at : at + len(features)], features)
            ]
            expected = stored["linear"][str(keys[row])][start : start + len(features)]
            np.testing.assert_array_equal(target, expected)
            starts.add(start)
    assert len(starts) > 5


def test_beside_kaldi_features_the_others_lose_the_frames_without_a_partner(
    place: Path, stored: dict[str, Arrays]
) -> None:
    """Kaldi's frame 0 is centred at 12.5 ms, next to the centred frame 1."""
    keys = Dataset(place).column("key")
    for batch in make_loader(place, KALDI):
        found = zip(
            batch.rows.tolist(),
            *(utterances_of(batch, some) for some in (batch.features, *batch.targets.values())),
            strict=True,
        )
        for row, logmel, linear, fbank in found:
            key = str(keys[row])
            np.testing.assert_array_equal(fbank, stored["fbank"][key])
            np.testing.assert_array_equal(logmel, stored["logmel"][key][1 : 1 + len(fbank)])
            np.testing.assert_array_equal(linear, stored["linear"][key][1 : 1 + len(fbank)])


@pytest.mark.parametrize("window_length_ms", [20.0, 25.0, 50.0])
def test_frames_that_belong_together_hear_the_same_click(window_length_ms: float) -> None:
    settings: list[FeatureSettings] = [
        LogMelSettings(fft_size=1024, window_length_ms=window_length_ms),
        FbankSettings(window_length_ms=25.0),
    ]
    skipped = leading_frames(settings)
    apart = []
    for click in range(3_200, 4_800, 50):
        wave = np.full(8_000, 1e-4, np.float32)
        wave[click] = 1.0
        first, second = (
            centre_of(np.exp(extract(wave, some)).mean(axis=1)) - count
            for some, count in zip(settings, skipped, strict=True)
        )
        apart.append(first - second)
    assert abs(np.mean(apart)) <= 0.5


def centre_of(weights: NDArray[np.float32]) -> float:
    """The mean frame, weighted."""
    return float((weights * np.arange(len(weights))).sum() / weights.sum())


@pytest.mark.parametrize("window_length_ms", [20.0, 25.0, 50.0, 100.0])
def test_features_of_one_wave_never_differ_by_more_frames_than_are_allowed(
    window_length_ms: float,
) -> None:
    settings: list[FeatureSettings] = [
        LinearSettings(),
        FbankSettings(window_length_ms=window_length_ms),
        MfccSettings(),
    ]
    skipped = leading_frames(settings)
    for samples in range(1_600, 2_300, 7):
        wave = np.random.default_rng(samples).uniform(-0.1, 0.1, samples).astype(np.float32)
        counts = [
            len(extract(wave, some)) - count for some, count in zip(settings, skipped, strict=True)
        ]
        assert min(counts) > 0
        assert max(counts) - min(counts) <= spare_frames(settings)


def test_targets_of_as_many_frames_do_not_change_the_order(place: Path) -> None:
    without, with_them = (
        make_loader(place, config) for config in (replace(PADDED, targets=()), PADDED)
    )
    assert with_them.state_dict() == without.state_dict()
    for batch, expected in zip(with_them, without, strict=True):
        assert torch.equal(batch.rows, expected.rows)
        assert torch.equal(batch.features, expected.features)


@pytest.mark.parametrize("config", [PADDED, PACKED, STATIC, KALDI])
def test_no_batch_is_larger_than_the_slots_it_is_read_into(
    place: Path, config: LoaderConfig
) -> None:
    table = make_table([Dataset(place).select(["*"])], config.features)
    plan = make_plan(table, config)
    look_up = LookUp(table, find_arrays(table), plan.frames, config)
    steps = list(plan.rest_of_epoch(0, 1))
    found = look_up.find([step.batches[0] for step in steps], [step.epoch for step in steps])
    most = largest_batch_bytes(plan.frames, table.dims, config.order)
    sizes = [contents.shape.bytes for contents in found]
    assert max(sizes) <= most
    assert most < 4 * max(sizes)


def test_targets_move_to_a_device_with_their_batch(place: Path) -> None:
    batch = next(iter(make_loader(place, PADDED)))
    moved = batch.to(torch.device("meta"))
    assert moved.targets["linear"].device.type == "meta"
    assert moved.targets["linear"].shape == batch.targets["linear"].shape
    assert (moved.longest, moved.real_frames) == (batch.longest, batch.real_frames)


@pytest.mark.parametrize("prefetch", [0, 2])
def test_a_wrong_byte_in_a_target_ends_the_epoch_with_its_name(
    place: Path, tmp_path: Path, prefetch: int
) -> None:
    copy = Path(shutil.copytree(place, tmp_path / "data"))
    dataset = Dataset(copy)
    row = 3
    with dataset.shard_path(row).open("r+b") as stream:
        stream.seek(int(dataset.locations("linear").offset[row]) + 50)
        [byte] = stream.read(1)
        stream.seek(-1, io.SEEK_CUR)
        stream.write(bytes([byte ^ 4]))
    message = f"{dataset.shard_name(row)}: the linear of '{dataset.key(row)}' is not what was"
    with pytest.raises(IntegrityError, match=message):
        list(make_loader(copy, replace(PADDED, prefetch=prefetch)))
    list(make_loader(copy, replace(PADDED, prefetch=prefetch, targets=())))


def test_features_with_another_frame_shift_are_refused(place: Path) -> None:
    message = (
        "mfcc has a frame each 20 ms, logmel each 10 ms: a batch needs equal ones; prepare both "
        "with the same frame_shift_ms"
    )
    with pytest.raises(ConfigError) as caught:
        make_loader(place, replace(PADDED, targets=("linear", "mfcc")))
    assert str(caught.value) == message


def test_frames_that_cannot_be_of_one_recording_are_refused(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = Dataset.frames

    def doctored(self: Dataset, feature: str) -> NDArray[np.int64]:
        counts = frames(self, feature).copy()
        counts[4] += 4 if feature == "linear" else 0
        return counts

    monkeypatch.setattr(Dataset, "frames", doctored)
    dataset = Dataset(place)
    stored = int(frames(dataset, "logmel")[4])
    with pytest.raises(ConfigError) as caught:
        make_loader(place, PADDED)
    assert str(caught.value) == (
        f"{dataset.shard_name(4)}, utterance '{dataset.key(4)}' has {stored} of logmel and "
        f"{stored + 4} of linear frames, which differ by more than 3: they are not of the same "
        "recording; prepare the data again"
    )


def test_a_target_that_is_not_stored_is_refused(prepared: Path) -> None:
    with pytest.raises(ConfigError, match="has no feature 'linear'"):
        make_loader(prepared, PADDED)


@pytest.mark.parametrize("targets", [("logmel",), ("linear", "linear")])
def test_a_target_is_given_once_and_is_not_the_input(targets: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        replace(PADDED, targets=targets)
    assert str(caught.value) == (
        f"targets are {', '.join(targets)}: name each once, and not logmel, which batches have "
        "already"
    )
