import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from aalbert.errors import ConfigError
from aalbert.shards import Dataset, Loader, LoaderConfig, OrderConfig
from aalbert.shards.loader import Stream

CONFIG = LoaderConfig(
    order=OrderConfig(frames_per_batch=200, window_shards=2, pool_batches=2), seed=5
)
CROPPED = replace(CONFIG, crop_frames=25)


@pytest.fixture(scope="session")
def dataset(prepared: Path) -> Dataset:
    return Dataset(prepared)


@pytest.fixture(scope="session")
def stored(prepared: Path) -> dict[str, NDArray[np.float16]]:
    """Every logmel by its key, read with the standard library and numpy."""
    arrays = {}
    for path in prepared.glob("*/*.tar"):
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                if member.name.endswith(".logmel.npy"):
                    payload = tar.extractfile(member).read()  # type: ignore[union-attr]
                    arrays[member.name.split(".")[0]] = np.load(io.BytesIO(payload))
    return arrays


def make_loader(dataset: Dataset, config: LoaderConfig = CONFIG) -> Loader:
    return Loader(dataset, np.arange(len(dataset)), config)


def make_stream(dataset: Dataset, steps: int, config: LoaderConfig = CONFIG) -> Stream:
    return Stream(make_loader(dataset, config), steps)


def resumed(stream: Stream, config: LoaderConfig = CONFIG) -> Stream:
    """A new stream in the state of another, which travelled as JSON."""
    other = make_stream(stream.loader.dataset, stream.steps, config)
    other.load_state_dict(json.loads(json.dumps(stream.state_dict())))
    return other


def rows_of(batches: Loader | Stream) -> list[list[int]]:
    return [batch.rows.tolist() for batch in batches]


def take(stream: Stream, count: int) -> list[list[int]]:
    return [batch.rows.tolist() for _, batch in zip(range(count), stream, strict=False)]


def epoch_length(dataset: Dataset) -> int:
    return len(make_loader(dataset))


def test_features_are_those_in_the_shards_padded_with_zeros(
    dataset: Dataset, stored: dict[str, NDArray[np.float16]]
) -> None:
    keys = dataset.column("key")
    seen = 0
    for batch in make_loader(dataset):
        expected = [stored[str(keys[row])] for row in batch.rows]
        longest = max(map(len, expected))
        padded = [np.pad(array, ((0, longest - len(array)), (0, 0))) for array in expected]
        assert batch.features.dtype == torch.float16
        np.testing.assert_array_equal(batch.features.numpy(), np.stack(padded))
        assert batch.lengths.tolist() == [len(array) for array in expected]
        assert batch.real_frames == sum(map(len, expected))
        seen += len(expected)
    assert seen == len(stored)


def test_batches_are_padded_at_all(dataset: Dataset) -> None:
    assert any(batch.lengths.min() < batch.features.shape[1] for batch in make_loader(dataset))


def test_crops_are_parts_of_the_utterance_and_change_with_the_epoch(
    dataset: Dataset, stored: dict[str, NDArray[np.float16]]
) -> None:
    keys = dataset.column("key")
    loader = make_loader(dataset, CROPPED)
    crops: list[dict[int, bytes]] = [{}, {}]
    for found in crops:
        for batch in loader:
            for features, length, row in zip(
                batch.features, batch.lengths, batch.rows, strict=True
            ):
                whole, crop = stored[str(keys[row])], features[:length].numpy()
                assert len(crop) == min(25, len(whole))
                windows = [whole[at : at + 25].tobytes() for at in range(len(whole) - 24)]
                assert crop.tobytes() in windows
                found[int(row)] = crop.tobytes()
    changed = sum(crops[0][row] != crops[1][row] for row in crops[0])
    assert changed > len(dataset) / 2


def test_every_row_comes_once_in_an_epoch_and_epochs_differ(dataset: Dataset) -> None:
    loader = make_loader(dataset)
    first, second = rows_of(loader), rows_of(loader)
    assert first != second
    for epoch in (first, second):
        assert sorted(sum(epoch, [])) == list(range(len(dataset)))


def test_an_unshuffled_loader_gives_every_row_once_in_the_same_order_each_epoch(
    dataset: Dataset,
) -> None:
    loader = make_loader(dataset, replace(CROPPED, shuffle=False))
    first = [(batch.rows.tolist(), batch.features) for batch in loader]
    second = [(batch.rows.tolist(), batch.features) for batch in loader]
    assert sorted(sum((rows for rows, _ in first), [])) == list(range(len(dataset)))
    assert [rows for rows, _ in first] == [rows for rows, _ in second]
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(first, second, strict=True))


def test_a_loader_of_some_rows_gives_only_those(dataset: Dataset) -> None:
    rows = dataset.rows(["dev-clean"])
    assert sorted(sum(rows_of(Loader(dataset, rows, CONFIG)), [])) == rows.tolist()


def test_the_length_of_a_loader_is_the_number_of_its_batches(dataset: Dataset) -> None:
    loader = make_loader(dataset)
    for _ in range(3):
        announced = len(loader)
        assert len(rows_of(loader)) == announced


def test_epoch_ends_count_the_batches_up_to_the_end_of_each_epoch(dataset: Dataset) -> None:
    loader = make_loader(dataset)
    ends = loader.epoch_ends(3)
    counted = np.cumsum([len(rows_of(loader)) for _ in range(3)])
    assert ends == counted.tolist()


def test_two_ranks_take_turns_through_the_epoch(dataset: Dataset) -> None:
    whole = rows_of(make_loader(dataset))
    rows = np.arange(len(dataset))
    parts = [rows_of(Loader(dataset, rows, CONFIG, rank=r, world_size=2)) for r in range(2)]
    together = [batch for step in zip(*parts, strict=True) for batch in step]
    assert together == whole[: len(together)]
    assert len(whole) - len(together) < 2


@pytest.mark.parametrize("config", [CONFIG, CROPPED], ids=["whole", "cropped"])
def test_a_stream_resumed_anywhere_goes_on_as_if_it_had_not_stopped(
    dataset: Dataset, config: LoaderConfig
) -> None:
    length = epoch_length(dataset)
    steps = 2 * length + 3
    whole = list(make_stream(dataset, steps, config))
    for stop in (0, 1, length - 1, length, length + 1, 2 * length, steps - 1):
        stream = make_stream(dataset, steps, config)
        take(stream, stop)
        rest = list(resumed(stream, config))
        assert len(rest) == steps - stop
        for batch, expected in zip(rest, whole[stop:], strict=True):
            assert batch.rows.tolist() == expected.rows.tolist()
            assert torch.equal(batch.features, expected.features)


def test_a_stream_resumed_twice_in_one_epoch_loses_and_repeats_nothing(dataset: Dataset) -> None:
    steps = epoch_length(dataset)
    assert steps >= 5
    stream = make_stream(dataset, steps)
    parts = take(stream, 2)
    stream = resumed(stream)
    parts += take(stream, 2)
    parts += rows_of(resumed(stream))
    assert parts == rows_of(make_stream(dataset, steps))


def test_the_state_taken_while_a_batch_is_in_use_counts_that_batch(dataset: Dataset) -> None:
    stream = make_stream(dataset, 5)
    for number, _ in enumerate(stream, start=1):
        assert len(rows_of(resumed(stream))) == 5 - number


def test_a_loader_resumed_in_the_middle_of_an_epoch_gives_the_rest_of_it(dataset: Dataset) -> None:
    whole = rows_of(make_loader(dataset))
    loader = make_loader(dataset)
    for _ in zip(range(3), loader, strict=False):
        pass
    other = make_loader(dataset)
    other.load_state_dict(loader.state_dict())
    assert rows_of(other) == whole[3:]
    assert other.state_dict() == {"epoch": 1, "position": 0}


def test_a_stream_gives_as_many_batches_as_it_says(dataset: Dataset) -> None:
    for steps in (1, epoch_length(dataset), 2 * epoch_length(dataset) + 1):
        stream = make_stream(dataset, steps)
        assert len(stream) == steps
        assert len(rows_of(stream)) == steps
        assert rows_of(stream) == []


def test_a_stream_without_a_batch_ends_with_an_error_instead_of_hanging(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = Loader(dataset, np.arange(3), CONFIG, world_size=50)
    planned = 0

    def plan() -> list[NDArray[np.int64]]:
        nonlocal planned
        planned += 1
        if planned > 100:
            pytest.fail("the stream asks for empty epochs for ever")
        return []

    monkeypatch.setattr(loader, "batches", plan)
    with pytest.raises(ConfigError):
        next(iter(Stream(loader, 1)))


def test_a_loader_refuses_a_feature_that_is_not_stored(dataset: Dataset) -> None:
    with pytest.raises(ConfigError, match="has no feature 'mfcc'"):
        make_loader(dataset, replace(CONFIG, feature="mfcc"))
