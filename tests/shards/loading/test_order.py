from itertools import combinations
from pathlib import Path
from random import Random

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from aalbert.errors import ConfigError
from aalbert.pipeline.corpora.librispeech import read_librispeech
from aalbert.shards.loading.config import OrderConfig
from aalbert.shards.loading.epoch_plan import EpochPlan
from aalbert.shards.loading.order import (
    Rows,
    choose_static_lengths,
    crop_start,
    divide_batches,
    held_out,
    padded_shape,
    permutation,
    shuffle_window,
    sort_window,
)

SEEDS = st.integers(0, 2**31)
KEYS = st.lists(st.text("abc-0123", max_size=8), unique=True, max_size=60)
FRAMES = st.lists(st.integers(1, 400), max_size=80).map(lambda numbers: np.array(numbers, np.int64))
CONFIGS = st.builds(
    OrderConfig,
    frames_per_batch=st.integers(1, 1500),
    packed=st.booleans(),
    pool_batches=st.integers(1, 6),
)


@given(FRAMES, CONFIGS, SEEDS)
def test_a_window_holds_every_entry_once(frames: Rows, config: OrderConfig, seed: int) -> None:
    entries = np.arange(len(frames)) * 3 + 7
    for batches in (
        shuffle_window(entries, frames, config, seed),
        sort_window(entries, frames, config),
    ):
        taken = [entry for batch in batches for entry in batch.tolist()]
        assert sorted(taken) == entries.tolist()
        assert all(len(batch) for batch in batches)


@given(FRAMES, CONFIGS, SEEDS)
def test_a_batch_keeps_the_budget_of_frames(frames: Rows, config: OrderConfig, seed: int) -> None:
    for batch in shuffle_window(np.arange(len(frames)), frames, config, seed):
        lengths = frames[batch]
        taken = lengths.sum() if config.packed else len(batch) * lengths.max()
        assert len(batch) == 1 or taken <= config.frames_per_batch


@given(FRAMES, st.integers(1, 900), SEEDS)
def test_static_lengths_give_no_other_shapes(frames: Rows, budget: int, seed: int) -> None:
    lengths = (50, 130, 400)
    config = OrderConfig(frames_per_batch=budget, static_lengths=lengths, pool_batches=2)
    shapes = {(max(1, budget // length), length) for length in lengths}
    for batch in shuffle_window(np.arange(len(frames)), frames, config, seed):
        utterances, length = padded_shape(len(batch), int(frames[batch].max()), config)
        assert (utterances, length) in shapes
        assert len(batch) <= utterances
        assert frames[batch].max() <= length


def test_a_permutation_never_changes() -> None:
    """Recorded once: runs could not be resumed if it changed."""
    assert permutation(8, "fingerprint", 1, "window", 0, 2).tolist() == [6, 7, 2, 5, 1, 3, 4, 0]
    assert permutation(5).tolist() == [4, 0, 1, 3, 2]


def test_permutations_are_uniform() -> None:
    places = np.array([permutation(6, "fair", number) for number in range(6000)])
    counts = np.array([[np.sum(places[:, at] == value) for value in range(6)] for at in range(6)])
    assert np.abs(counts - 1000).max() < 130


def padding(frames: Rows, config: OrderConfig) -> float:
    """The share of frames that are padding."""
    batches = shuffle_window(np.arange(len(frames)), frames, config, 1)
    stored = sum(
        np.prod(padded_shape(len(batch), int(frames[batch].max()), config)) for batch in batches
    )
    return 1 - float(frames.sum() / stored)


def test_sorted_pools_hold_little_padding() -> None:
    frames = np.random.default_rng(1).integers(200, 1700, 20_000)
    pools = OrderConfig(frames_per_batch=12_000)
    unsorted = OrderConfig(frames_per_batch=12_000, pool_batches=1)
    assert padding(frames, pools) < 0.02 < 0.2 < padding(frames, unsorted)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(1, 12))
def test_remaining_batches_are_divided_in_order(sizes: list[int], world_size: int) -> None:
    ends = np.cumsum(sizes)
    batches = np.split(np.arange(ends[-1]), ends[:-1])
    divided = divide_batches(batches, world_size)
    if ends[-1] < world_size:
        assert divided is None
    else:
        assert divided is not None
        assert len(divided) == max(world_size, len(sizes))
        assert all(len(batch) for batch in divided)
        assert np.concatenate(divided).tolist() == list(range(ends[-1]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"frames_per_batch": 0}, "frames_per_batch is 0: give a number above 0"),
        ({"window_shards": -1}, "window_shards is -1"),
        ({"static_lengths": (100, 50)}, r"static_lengths are \(100, 50\): give rising numbers"),
        ({"static_lengths": (0,)}, r"static_lengths are \(0,\)"),
        ({"static_lengths": (9,), "packed": True}, "packed batches have no padding"),
        ({"remainder": "keep"}, "remainder is .keep.: use one of drop, repeat"),
    ],
)
def test_settings_without_meaning_are_refused(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        OrderConfig(**{"frames_per_batch": 100, **settings})  # type: ignore[arg-type]


@given(st.text(max_size=20), st.integers(1, 5000), st.integers(1, 3000), SEEDS, SEEDS)
def test_a_crop_lies_inside_the_utterance(
    key: str, frames: int, crop: int, seed: int, epoch: int
) -> None:
    start = crop_start(key, frames, crop, seed=seed, epoch=epoch)
    assert start >= 0
    assert start + min(crop, frames) <= frames


def test_crops_reach_every_start_about_equally_often() -> None:
    starts = [crop_start(f"key-{n}", 109, 100, seed=1, epoch=2) for n in range(10_000)]
    counts = np.bincount(starts, minlength=10)
    assert len(counts) == 10
    assert counts.min() > 850


def test_crops_differ_between_seeds_epochs_keys_and_copies() -> None:
    starts = {
        crop_start(key, 10**9, 1, seed=seed, epoch=epoch, copy=copy)
        for key in ("a", "b")
        for seed in (1, 2)
        for epoch in (1, 2)
        for copy in (0, 1)
    }
    assert len(starts) == 16


@given(KEYS.filter(bool), st.floats(0, 0.99), SEEDS)
def test_the_held_out_part_is_never_empty(keys: list[str], proportion: float, seed: int) -> None:
    assert held_out(keys, proportion, seed=seed).any()


@given(KEYS.filter(bool), KEYS, st.floats(0, 0.99), SEEDS)
def test_new_keys_do_not_move_old_ones_out_of_or_into_the_held_out_part(
    old: list[str], new: list[str], proportion: float, seed: int
) -> None:
    before = held_out(old, proportion, seed=seed)
    if before.sum() < 2:  # a single one may be there only so that the part is not empty
        return
    joined = [*old, *(key for key in new if key not in old)]
    np.testing.assert_array_equal(held_out(joined, proportion, seed=seed)[: len(old)], before)


@given(KEYS.filter(bool), st.floats(0, 0.99), SEEDS, st.randoms())
def test_the_held_out_part_does_not_depend_on_the_order_of_keys(
    keys: list[str], proportion: float, seed: int, random: Random
) -> None:
    shuffled = list(keys)
    random.shuffle(shuffled)
    chosen = dict(zip(keys, held_out(keys, proportion, seed=seed), strict=True))
    again = dict(zip(shuffled, held_out(shuffled, proportion, seed=seed), strict=True))
    assert chosen == again


def test_about_the_asked_proportion_is_held_out() -> None:
    keys = [f"key-{number}" for number in range(10_000)]
    assert abs(held_out(keys, 0.1, seed=1).mean() - 0.1) < 0.01
    assert not np.array_equal(held_out(keys, 0.1, seed=1), held_out(keys, 0.1, seed=2))


def padded_frames(frames: list[int], lengths: tuple[int, ...]) -> int:
    return sum(min(length for length in lengths if length >= own) for own in frames)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=12), st.integers(1, 5))
def test_no_other_lengths_take_less_padding(frames: list[int], count: int) -> None:
    """Compared with all possible choices."""
    lengths = choose_static_lengths(np.array(frames), count, multiple=5)
    possible = sorted({-(-own // 5) * 5 for own in frames})
    best = min(
        padded_frames(frames, (*some, possible[-1]))
        for size in range(count)
        for some in combinations(possible[:-1], min(size, len(possible) - 1))
    )
    assert len(lengths) <= count
    assert lengths == tuple(sorted(set(lengths)))
    assert lengths[-1] == possible[-1]
    assert padded_frames(frames, lengths) == best


def test_lengths_without_a_number_or_utterances_are_refused() -> None:
    with pytest.raises(ConfigError, match="0 lengths were asked for: give 1 or more"):
        choose_static_lengths(np.array([5]), 0)
    with pytest.raises(ConfigError, match="no utterance to choose lengths for"):
        choose_static_lengths(np.array([], np.int64), 3)


def efficiency(frames: Rows, config: OrderConfig) -> float:
    """The share of the frames in an epoch's batches that are speech."""
    plan = EpochPlan(frames, np.arange(len(frames)) // 1300, config)
    batches = [step.batches[0] for step in plan.rest_of_epoch(0, 1)]
    taken = sum(
        np.prod(padded_shape(len(batch), int(frames[batch].max()), config)) for batch in batches
    )
    return float(frames.sum() / taken)


def test_sixteen_static_shapes_hold_95_percent_speech() -> None:
    """Durations like LibriSpeech's: many of 12 to 16 s, shorter ones, a few up to 35 s."""
    draws = np.random.default_rng(3)
    many, short = draws.normal(1420, 130, 15_000), draws.uniform(140, 1300, 12_000)
    frames = np.clip(np.concatenate([many, short]), 140, 3500).astype(np.int64)
    draws.shuffle(frames)
    lengths = choose_static_lengths(frames, 16)
    config = OrderConfig(frames_per_batch=48_000, static_lengths=lengths)
    assert efficiency(frames, config) > 0.95
    assert efficiency(frames, OrderConfig(frames_per_batch=48_000)) > 0.98


def test_the_durations_of_librispeech_make_little_padding(shared: Path) -> None:
    """Those of 520 recordings, many times over, as in the whole corpus."""
    found = read_librispeech(shared / "data" / "LibriSpeech").utterances
    frames = np.array([soundfile.info(item.path).frames // 160 + 1 for item in found])
    frames = np.random.default_rng(1).permutation(np.tile(frames, 50))
    lengths = choose_static_lengths(frames, 16)
    assert efficiency(frames, OrderConfig(frames_per_batch=24_000, static_lengths=lengths)) > 0.95
    assert efficiency(frames, OrderConfig(frames_per_batch=24_000)) > 0.97
