from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from aalbert.shards.order import (
    OrderConfig,
    Rows,
    crop_start,
    deal,
    held_out,
    shuffled_batches,
    sorted_batches,
)


@dataclass(frozen=True)
class Case:
    rows: Rows
    frames: Rows
    shards: Rows
    config: OrderConfig

    def batches(self, seed: int = 0, epoch: int = 0) -> list[list[int]]:
        planned = shuffled_batches(
            self.rows, self.frames, self.shards, self.config, seed=seed, epoch=epoch
        )
        return [batch.tolist() for batch in planned]

    def frames_of(self) -> dict[int, int]:
        return dict(zip(self.rows.tolist(), self.frames.tolist(), strict=True))

    def shard_of(self) -> dict[int, int]:
        return dict(zip(self.rows.tolist(), self.shards.tolist(), strict=True))


@st.composite
def cases(draw: Callable[[st.SearchStrategy[int]], int]) -> Case:
    count = draw(st.integers(0, 80))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return Case(
        rows=rng.permutation(3 * count)[:count].astype(np.int64),
        frames=rng.integers(1, draw(st.integers(2, 400)), count),
        shards=np.sort(rng.integers(0, draw(st.integers(1, 12)), count)),
        config=OrderConfig(
            frames_per_batch=draw(st.integers(1, 1500)),
            window_shards=draw(st.integers(1, 6)),
            pool_batches=draw(st.integers(1, 6)),
        ),
    )


def large_case() -> Case:
    rng = np.random.default_rng(1)
    return Case(
        rows=np.arange(400),
        frames=rng.integers(100, 1500, 400),
        shards=np.arange(400) // 20,
        config=OrderConfig(frames_per_batch=6000, window_shards=4, pool_batches=3),
    )


SEEDS = st.integers(0, 2**31)
KEYS = st.lists(st.text("abc-0123", max_size=8), unique=True, max_size=60)


@given(cases(), SEEDS, st.integers(0, 1000))
def test_shuffled_batches_hold_every_row_once(case: Case, seed: int, epoch: int) -> None:
    taken = [row for batch in case.batches(seed, epoch) for row in batch]
    assert sorted(taken) == sorted(case.rows.tolist())


@given(cases())
def test_sorted_batches_hold_every_row_once_and_never_grow(case: Case) -> None:
    planned = sorted_batches(case.rows, case.frames, case.config.frames_per_batch)
    taken = [row for batch in planned for row in batch.tolist()]
    lengths = [case.frames_of()[row] for row in taken]
    assert sorted(taken) == sorted(case.rows.tolist())
    assert lengths == sorted(lengths, reverse=True)


@given(cases(), SEEDS)
def test_a_padded_batch_keeps_the_budget_of_frames(case: Case, seed: int) -> None:
    for batch in case.batches(seed):
        longest = max(case.frames_of()[row] for row in batch)
        assert len(batch) == 1 or len(batch) * longest <= case.config.frames_per_batch


@given(cases(), SEEDS, st.integers(0, 1000))
def test_seed_and_epoch_decide_the_batches(case: Case, seed: int, epoch: int) -> None:
    np.random.seed(seed)  # the global generator must not matter
    first = case.batches(seed, epoch)
    np.random.seed(seed + 1)
    assert case.batches(seed, epoch) == first


def test_every_epoch_and_every_seed_has_its_own_order() -> None:
    case = large_case()
    orders = [case.batches(seed, epoch) for seed in range(3) for epoch in range(3)]
    assert all(a != b for place, a in enumerate(orders) for b in orders[:place])


def test_epochs_do_not_repeat_the_same_batches_in_another_order() -> None:
    case = large_case()
    first = {frozenset(batch) for batch in case.batches(epoch=0)}
    second = {frozenset(batch) for batch in case.batches(epoch=1)}
    assert len(first & second) < len(first) / 10


@given(cases(), SEEDS)
def test_a_batch_comes_from_at_most_one_window_of_shards(case: Case, seed: int) -> None:
    for batch in case.batches(seed):
        assert len({case.shard_of()[row] for row in batch}) <= case.config.window_shards


def padding(case: Case, batches: list[list[int]]) -> int:
    """Count the frames of padding in batches of these rows."""
    lengths = [[case.frames_of()[row] for row in batch] for batch in batches]
    return sum(len(batch) * max(batch) - sum(batch) for batch in lengths)


def test_batches_hold_less_than_half_the_padding_of_unsorted_ones() -> None:
    case = large_case()
    unsorted: list[list[int]] = [[]]
    for row in case.rows.tolist():
        grown = [*unsorted[-1], row]
        longest = max(case.frames_of()[member] for member in grown)
        if len(grown) * longest <= case.config.frames_per_batch:
            unsorted[-1] = grown
        else:
            unsorted.append([row])
    assert padding(case, case.batches()) < padding(case, unsorted) / 2


@given(cases(), st.integers(1, 7))
def test_ranks_get_equal_counts_and_no_row_twice(case: Case, world_size: int) -> None:
    planned = (
        case.config,
        shuffled_batches(case.rows, case.frames, case.shards, case.config, seed=0, epoch=0),
    )
    batches = planned[1]
    dealt = [deal(batches, rank, world_size) for rank in range(world_size)]
    taken = [row for part in dealt for batch in part for row in batch.tolist()]
    assert {len(part) for part in dealt} == {len(batches) // world_size}
    assert len(taken) == len(set(taken))


@given(cases(), st.integers(1, 7))
def test_ranks_together_do_the_batches_of_one_rank_step_by_step(
    case: Case, world_size: int
) -> None:
    batches = [np.array(batch) for batch in case.batches()]
    dealt = [deal(batches, rank, world_size) for rank in range(world_size)]
    together = [batch.tolist() for step in zip(*dealt, strict=True) for batch in step]
    assert together == [batch.tolist() for batch in batches[: len(together)]]
    assert len(batches) - len(together) < world_size


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


def test_crops_differ_between_seeds_epochs_and_keys() -> None:
    starts = {
        crop_start(key, 10**9, 1, seed=seed, epoch=epoch)
        for key in ("a", "b")
        for seed in (1, 2)
        for epoch in (1, 2)
    }
    assert len(starts) == 8


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
