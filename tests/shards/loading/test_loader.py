import io
import json
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from aalbert.errors import ConfigError
from aalbert.shards import Batch, Dataset, Loader, LoaderConfig, OrderConfig, Selection
from aalbert.shards.loading.loader import Stream

CONFIG = LoaderConfig(
    order=OrderConfig(frames_per_batch=200, window_shards=2, pool_batches=2), seed=5, prefetch=0
)
CROPPED = replace(CONFIG, crop_frames=25)
PACKED = replace(CONFIG, order=replace(CONFIG.order, packed=True))
READ_AHEAD = replace(CONFIG, prefetch=3)
STATIC = replace(CONFIG, order=replace(CONFIG.order, static_lengths=(40, 60, 100)))


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


def make_loader(dataset: Dataset, config: LoaderConfig = CONFIG, **ranks: int) -> Loader:
    return Loader(dataset.select(["*"]), config, **ranks)


def make_stream(dataset: Dataset, steps: int, config: LoaderConfig = CONFIG) -> Stream:
    return Stream(make_loader(dataset, config), steps)


def travelled(state: dict[str, int | str]) -> dict[str, int | str]:
    """A state that went through JSON."""
    return json.loads(json.dumps(state))  # type: ignore[no-any-return]


def resumed(stream: Stream) -> Stream:
    """A new stream in the state of another."""
    loader = stream.loader
    other = Stream(Loader(loader.selections, loader.config), stream.steps)
    other.load_state_dict(travelled(stream.state_dict()))
    return other


def rows_of(batches: Iterable[Batch]) -> list[list[int]]:
    return [batch.rows.tolist() for batch in batches]


def utterances_of(batch: Batch) -> Iterator[tuple[int, NDArray[np.float16]]]:
    """Row and features of every utterance of a padded batch."""
    for features, length, row in zip(batch.features, batch.lengths, batch.rows, strict=True):
        yield int(row), features[:length].numpy()


@pytest.mark.parametrize("config", [CONFIG, READ_AHEAD], ids=["inline", "read ahead"])
def test_features_are_those_in_the_shards_padded_with_zeros(
    dataset: Dataset, stored: dict[str, NDArray[np.float16]], config: LoaderConfig
) -> None:
    keys = dataset.column("key")
    seen = 0
    for batch in make_loader(dataset, config):
        expected = [stored[str(keys[row])] for row in batch.rows]
        longest = max(map(len, expected))
        padded = [np.pad(array, ((0, longest - len(array)), (0, 0))) for array in expected]
        assert batch.features.dtype == torch.float16
        np.testing.assert_array_equal(batch.features.numpy(), np.stack(padded))
        assert batch.lengths.tolist() == [len(array) for array in expected]
        assert batch.real_frames == sum(map(len, expected))
        seen += len(expected)
    assert seen == len(stored)


def test_some_batches_have_padding(dataset: Dataset) -> None:
    assert any(batch.lengths.min() < batch.features.shape[1] for batch in make_loader(dataset))


@pytest.mark.parametrize("prefetch", [0, 2])
def test_packed_batches_hold_utterances_one_after_another(
    dataset: Dataset, stored: dict[str, NDArray[np.float16]], prefetch: int
) -> None:
    keys = dataset.column("key")
    rows = []
    for batch in make_loader(dataset, replace(PACKED, prefetch=prefetch)):
        expected = [stored[str(keys[row])] for row in batch.rows]
        np.testing.assert_array_equal(batch.features.numpy(), np.concatenate(expected))
        assert batch.offsets.tolist() == [0, *np.cumsum([len(array) for array in expected])]
        assert batch.offsets.dtype == torch.int32
        assert len(batch.features) <= PACKED.order.frames_per_batch
        rows += batch.rows.tolist()
    assert sorted(rows) == list(range(len(dataset)))


@pytest.mark.parametrize("prefetch", [0, 2])
def test_batches_of_static_shape_have_only_the_shapes_of_their_lengths(
    dataset: Dataset, stored: dict[str, NDArray[np.float16]], prefetch: int
) -> None:
    keys = dataset.column("key")
    rows = []
    for batch in make_loader(dataset, replace(STATIC, prefetch=prefetch)):
        assert tuple(batch.features.shape[:2]) in {(5, 40), (3, 60), (2, 100)}
        for row, features in utterances_of(batch):
            expected = stored[str(keys[row])] if row >= 0 else np.empty((0, 80), np.float16)
            np.testing.assert_array_equal(features, expected)
        for features, length in zip(batch.features, batch.lengths, strict=True):
            assert not features[length:].any()
        rows += [row for row in batch.rows.tolist() if row >= 0]
    assert sorted(rows) == list(range(len(dataset)))


def test_static_lengths_that_end_too_early_are_refused(dataset: Dataset) -> None:
    config = replace(STATIC, order=replace(STATIC.order, static_lengths=(40, 50)))
    longest = int(dataset.frames("logmel").max())
    with pytest.raises(ConfigError, match=f"end at 50 frames, the longest utterance has {longest}"):
        make_loader(dataset, config)


def test_crops_are_parts_of_the_utterance_and_change_with_the_epoch(
    dataset: Dataset, stored: dict[str, NDArray[np.float16]]
) -> None:
    keys = dataset.column("key")
    loader = make_loader(dataset, CROPPED)
    crops: list[dict[int, bytes]] = [{}, {}]
    for found in crops:
        for row, crop in (pair for batch in loader for pair in utterances_of(batch)):
            whole = stored[str(keys[row])]
            assert len(crop) == min(25, len(whole))
            windows = [whole[at : at + 25].tobytes() for at in range(len(whole) - 24)]
            assert crop.tobytes() in windows
            found[row] = crop.tobytes()
    changed = sum(crops[0][row] != crops[1][row] for row in crops[0])
    assert changed > len(dataset) / 2


def test_crops_do_not_depend_on_the_batches(dataset: Dataset) -> None:
    larger = replace(CROPPED, order=OrderConfig(frames_per_batch=500, packed=False))
    first, second = (
        {
            row: crop.tobytes()
            for batch in make_loader(dataset, config)
            for row, crop in utterances_of(batch)
        }
        for config in (CROPPED, larger)
    )
    assert first == second


def test_every_row_comes_once_in_an_epoch_and_epochs_differ(dataset: Dataset) -> None:
    loader = make_loader(dataset)
    first, second = rows_of(loader), rows_of(loader)
    assert first != second
    for epoch in (first, second):
        assert sorted(sum(epoch, [])) == list(range(len(dataset)))


@pytest.mark.parametrize("readers", [1, 2, 3])
def test_reading_ahead_changes_nothing(dataset: Dataset, readers: int) -> None:
    ahead = make_loader(dataset, replace(READ_AHEAD, readers=readers, prefetch=1))
    inline = make_loader(dataset)
    for _ in range(3):
        for batch, expected in zip(ahead, inline, strict=True):
            assert torch.equal(batch.features, expected.features)
            assert torch.equal(batch.rows, expected.rows)
            assert ahead.state_dict() == inline.state_dict()


@pytest.mark.parametrize("prefetch", [1, 8])
def test_batches_that_are_kept_stay_as_they_were(dataset: Dataset, prefetch: int) -> None:
    """More than there are slots for."""
    kept = list(make_loader(dataset, replace(READ_AHEAD, prefetch=prefetch)))
    assert len(kept) > prefetch + 2
    for batch, expected in zip(kept, make_loader(dataset), strict=True):
        assert torch.equal(batch.features, expected.features)
        assert torch.equal(batch.lengths, expected.lengths)


def test_part_of_a_batch_keeps_its_memory(dataset: Dataset) -> None:
    loader = make_loader(dataset, replace(READ_AHEAD, prefetch=1))
    parts = [batch.features[0, :5] for batch in loader]
    for part, expected in zip(parts, make_loader(dataset), strict=True):
        assert torch.equal(part, expected.features[0, :5])


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
    some = dataset.select(["dev-clean"])
    assert sorted(sum(rows_of(Loader(some, CONFIG)), [])) == some.rows.tolist()


@pytest.mark.parametrize("rows", [[2, 1], [1, 1], [-1], [10_000]])
def test_rows_out_of_order_or_range_are_refused(dataset: Dataset, rows: list[int]) -> None:
    with pytest.raises(ConfigError, match="must rise and lie between 0 and 29"):
        Selection(dataset, np.array(rows))


def test_several_datasets_share_their_batches(
    dataset: Dataset, stored: dict[str, NDArray[np.float16]]
) -> None:
    parts = [dataset.select(["train*"]), dataset.select(["dev-clean"], weight=3)]
    keys = [*dataset.column("key"), *dataset.column("key")]
    batches = list(Loader(parts, CONFIG))
    rows = [row for batch in batches for row in batch.rows.tolist()]
    own = parts[0].rows.tolist()
    other = (parts[1].rows + len(dataset)).tolist()
    assert sorted(rows) == sorted([*own, *other, *other, *other])
    for row, features in (pair for batch in batches for pair in utterances_of(batch)):
        np.testing.assert_array_equal(features, stored[str(keys[row])])
    assert any(
        {row < len(dataset) for row in batch.rows.tolist()} == {True, False} for batch in batches
    )


def test_copies_in_one_epoch_are_other_crops(dataset: Dataset) -> None:
    loader = Loader(dataset.select(["*"], weight=2), replace(CONFIG, crop_frames=5))
    crops: dict[int, set[bytes]] = {}
    for row, crop in (pair for batch in loader for pair in utterances_of(batch)):
        crops.setdefault(row, set()).add(crop.tobytes())
    assert sum(len(found) == 2 for found in crops.values()) > len(dataset) / 2


def test_datasets_with_other_settings_are_refused_with_the_difference(
    dataset: Dataset, tmp_path: Path
) -> None:
    from aalbert.pipeline.corpora.librispeech import read_librispeech
    from aalbert.pipeline.corpora.synthesis import write_librispeech
    from aalbert.pipeline.prepare.config import PrepareConfig
    from aalbert.pipeline.prepare.engine import LocalEngine
    from aalbert.pipeline.prepare.prepare import PrepareLimits, prepare
    from aalbert.shards.format.feature_settings import LogMelSettings
    from aalbert.shards.format.wave_settings import WaveSettings

    corpus = tmp_path / "LibriSpeech"
    write_librispeech(corpus, speakers=1, utterances_per_speaker=2, seed=1, seconds=(0.3, 0.4))
    settings = LogMelSettings(mels=40, wave=WaveSettings(gain_db=3.0))
    prepare(
        read_librispeech(corpus),
        tmp_path / "other",
        PrepareConfig(features=(settings,)),
        PrepareLimits(engine=LocalEngine(workers=1)),
    )
    other = Dataset(tmp_path / "other")
    with pytest.raises(ConfigError) as caught:
        Loader([dataset.select(["*"]), other.select(["*"])], CONFIG)
    assert str(caught.value) == (
        f"{dataset.folder} expects another logmel than {other.folder} has: prepare both with the "
        "same settings"
    )
    assert caught.value.details == (
        "mels: expected 80, found 40",
        "wave.gain_db: expected 0.0, found 3.0",
    )


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
    parts = [rows_of(make_loader(dataset, rank=rank, world_size=2)) for rank in range(2)]
    together = [batch for step in zip(*parts, strict=True) for batch in step]
    shared = len(whole) // 2 * 2
    assert together[:shared] == whole[:shared]
    assert sorted(sum(together, [])) == list(range(len(dataset)))


@pytest.mark.parametrize(
    ("config", "every"),
    [(CONFIG, 1), (CROPPED, 1), (READ_AHEAD, 11)],
    ids=["whole", "cropped", "ahead"],
)
def test_a_stream_resumed_anywhere_continues_as_if_it_had_not_stopped(
    dataset: Dataset, config: LoaderConfig, every: int
) -> None:
    length = len(make_loader(dataset))
    steps = 2 * length + 3
    whole = list(make_stream(dataset, steps, config))
    for stop in range(1, steps, every):
        stream = make_stream(dataset, steps, config)
        list(islice(stream, stop))
        rest = list(resumed(stream))
        assert len(rest) == steps - stop
        for batch, expected in zip(rest, whole[stop:], strict=True):
            assert batch.rows.tolist() == expected.rows.tolist()
            assert torch.equal(batch.features, expected.features)


def test_a_stream_resumed_twice_in_one_epoch_loses_and_repeats_nothing(dataset: Dataset) -> None:
    steps = len(make_loader(dataset))
    assert steps >= 5
    stream = make_stream(dataset, steps)
    parts = rows_of(islice(stream, 2))
    stream = resumed(stream)
    parts += rows_of(islice(stream, 2))
    parts += rows_of(resumed(stream))
    assert parts == rows_of(make_stream(dataset, steps))


def test_the_state_taken_while_a_batch_is_in_use_counts_that_batch(dataset: Dataset) -> None:
    stream = make_stream(dataset, 5, READ_AHEAD)
    for number, _ in enumerate(stream, start=1):
        assert len(rows_of(resumed(stream))) == 5 - number


def test_a_loader_with_an_earlier_state_reads_from_there(dataset: Dataset) -> None:
    loader = make_loader(dataset, READ_AHEAD)
    start = loader.state_dict()
    first = rows_of(islice(loader, 3))
    loader.load_state_dict(start)
    assert rows_of(islice(loader, 3)) == first


def test_a_position_in_another_order_is_refused(dataset: Dataset) -> None:
    state = make_loader(dataset).state_dict()
    for other in (
        make_loader(dataset, replace(CONFIG, seed=6)),
        make_loader(dataset, CROPPED),
        make_loader(dataset, PACKED),
        Loader(dataset.select(["train*"]), CONFIG),
    ):
        with pytest.raises(ConfigError, match="the saved position belongs to another order"):
            other.load_state_dict(state)


def test_a_stream_yields_as_many_batches_as_its_length(dataset: Dataset) -> None:
    length = len(make_loader(dataset))
    for steps in (1, length, 2 * length + 1):
        stream = make_stream(dataset, steps)
        assert len(stream) == steps
        assert len(rows_of(stream)) == steps
        assert rows_of(stream) == []


def test_more_ranks_than_utterances_are_refused(dataset: Dataset) -> None:
    loader = Loader(Selection(dataset, np.arange(3)), CONFIG, world_size=50)
    message = "3 utterances give no step of 50 batches: use fewer processes, fewer batches a step"
    with pytest.raises(ConfigError, match=message):
        next(iter(Stream(loader, 1)))


def test_a_loader_refuses_a_feature_that_is_not_stored(dataset: Dataset) -> None:
    with pytest.raises(ConfigError, match="has no feature 'mfcc'"):
        make_loader(dataset, replace(CONFIG, feature="mfcc"))


@pytest.mark.parametrize(("rank", "world_size"), [(2, 2), (-1, 2), (0, 0)])
def test_a_rank_that_does_not_exist_is_refused(
    dataset: Dataset, rank: int, world_size: int
) -> None:
    with pytest.raises(ConfigError, match=f"rank is {rank} of {world_size}: ranks count from 0"):
        make_loader(dataset, rank=rank, world_size=world_size)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"verify": "often"}, "verify is 'often': use one of always, first-epoch, never"),
        ({"targets": "linear"}, "targets is 'linear': give a tuple of names, such as ('linear',)"),
        ({"crop_frames": 0}, "crop_frames is 0: give a number above 0"),
        ({"prefetch": -1}, "prefetch is -1: give 0 or more"),
        ({"readers": 0}, "readers is 0: give 1 or more"),
    ],
)
def test_settings_of_a_loader_without_meaning_are_refused(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        replace(CONFIG, **settings)
    assert str(caught.value) == message


def test_the_documented_example_runs(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (Path(__file__).parents[3] / "docs" / "loader.md").read_text("utf-8")
    [example] = [part for part in text.split("```") if part.startswith("python\nfrom aalbert")]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "librispeech").symlink_to(prepared)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(example.removeprefix("python"), names)
    loader, dataset = names["loader"], names["dataset"]
    assert isinstance(loader, Loader)
    assert isinstance(dataset, Dataset)
    assert loader.position == 2 * len(dataset.rows(["train*"]))


def test_a_loader_and_a_batch_say_what_they_hold(prepared: Path) -> None:
    order = OrderConfig(frames_per_batch=1000)
    config = LoaderConfig(order=order, targets=("fbank",), prefetch=0)
    loader = Loader(Dataset(prepared).select(["train*"]), config, rank=1, world_size=2)
    words = (
        f"Loader({str(prepared)!r}: 24 utterances an epoch of logmel, fbank, 1,000 frames a batch"
    )
    assert repr(loader) == f"{words}; at utterance 0 of epoch 0, rank 1 of 2)"
    batch = next(iter(loader))
    longest = batch.features.shape[1]
    assert repr(batch) == (
        f"Batch({len(batch.rows)} utterances, {int(batch.lengths.sum()):,} frames, the longest "
        f"{longest:,}; features ({len(batch.rows)}, {longest}, 80), "
        f"fbank ({len(batch.rows)}, {longest}, 80))"
    )
    assert loader.position == 24 and "at utterance 0 of epoch 1," in repr(loader)
