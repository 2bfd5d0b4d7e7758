import time
from collections import Counter
from dataclasses import dataclass, replace
from itertools import islice, takewhile
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aalbert.errors import ConfigError
from aalbert.shards.loading.config import OrderConfig
from aalbert.shards.loading.epoch_plan import DatasetShare, EpochPlan, Step
from aalbert.shards.loading.order import shuffle_window

SEEDS = st.integers(0, 2**31)
RANKS = st.integers(1, 7)


@dataclass(frozen=True)
class Case:
    """The arguments of a plan as a few numbers, so that failures are readable."""

    sizes: tuple[int, ...]  # utterances of each shard
    budget: int
    packed: bool
    shuffle: bool
    window_shards: int
    draw: int

    @property
    def utterances(self) -> int:
        return sum(self.sizes)

    def plan(
        self, *, seed: int = 0, fingerprint: str = "data", remainder: str = "drop"
    ) -> EpochPlan:
        frames = np.random.default_rng(self.draw).integers(1, 300, self.utterances)
        config = OrderConfig(
            frames_per_batch=self.budget,
            packed=self.packed,
            window_shards=self.window_shards,
            pool_batches=3,
            remainder=remainder,  # type: ignore[arg-type]
        )
        return EpochPlan(
            frames.astype(np.int64),
            np.repeat(np.arange(len(self.sizes)), self.sizes),
            config,
            seed=seed,
            fingerprint=fingerprint,
            shuffle=self.shuffle,
        )


CASES = st.builds(
    Case,
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=9).map(tuple),
    budget=st.integers(1, 1500),
    packed=st.booleans(),
    shuffle=st.booleans(),
    window_shards=st.integers(1, 5),
    draw=SEEDS,
)
LARGE = Case((20,) * 20, 6000, packed=False, shuffle=True, window_shards=4, draw=1)


def epoch_of(plan: EpochPlan, epoch: int, world_size: int = 1) -> list[Step]:
    return list(plan.rest_of_epoch(epoch * plan.size, world_size))


def entries_of(steps: list[Step]) -> list[int]:
    return [entry for step in steps for batch in step.batches for entry in batch.tolist()]


def as_lists(step: Step) -> list[list[int]]:
    return [batch.tolist() for batch in step.batches]


@given(CASES, RANKS, st.integers(0, 1000))
def test_an_epoch_covers_every_entry_once_and_ranks_get_equal_counts(
    case: Case, ranks: int, epoch: int
) -> None:
    plan = case.plan()
    steps = epoch_of(plan, epoch, ranks)
    taken = entries_of(steps)
    assert all(len(step.batches) == ranks for step in steps)
    assert all(len(batch) > 0 for step in steps for batch in step.batches)
    assert len(set(taken)) == len(taken)
    dropped = sum(step.dropped for step in steps)
    if steps:
        assert len(taken) + dropped == case.utterances
        assert dropped < ranks
        assert steps[-1].position == (epoch + 1) * plan.size
    else:
        assert case.utterances < ranks
    assert plan.count_steps(epoch, ranks) == len(steps)


@given(CASES, RANKS)
def test_repeated_utterances_are_counted_and_none_is_missing(case: Case, ranks: int) -> None:
    steps = epoch_of(case.plan(remainder="repeat"), 0, ranks)
    counts = Counter(entries_of(steps))
    assert set(counts) == set(range(case.utterances))
    assert counts.total() - case.utterances == sum(step.repeated for step in steps)
    assert sum(step.repeated for step in steps) < ranks


@given(CASES, RANKS, st.data())
def test_seeking_equals_iterating(case: Case, ranks: int, data: st.DataObject) -> None:
    plan = case.plan()
    if case.utterances < ranks:
        with pytest.raises(ConfigError, match=f"give no step of {ranks} batches"):
            next(plan.steps(0, ranks))
        return
    steps = list(islice(plan.steps(0, ranks), 12))
    done = data.draw(st.integers(1, len(steps)))
    rest = list(islice(plan.steps(steps[done - 1].position, ranks), len(steps) - done))
    assert [as_lists(step) for step in rest] == [as_lists(step) for step in steps[done:]]
    assert [step.position for step in rest] == [step.position for step in steps[done:]]


@given(CASES, st.lists(st.tuples(RANKS, st.integers(1, 4)), min_size=1, max_size=4), RANKS)
def test_no_entry_is_lost_or_repeated_when_the_number_of_ranks_changes(
    case: Case, changes: list[tuple[int, int]], last: int
) -> None:
    """1 -> 2 -> 1 ranks and any other changes within an epoch."""
    plan, position, taken, dropped = case.plan(), 0, [], 0
    for ranks, count in [*changes, (last, 10_000)]:
        if position >= plan.size:
            break
        for step in islice(plan.rest_of_epoch(position, ranks), count):
            taken += entries_of([step])
            dropped += step.dropped
            position = step.position
    assert len(set(taken)) == len(taken)
    left = case.utterances - len(taken)
    assert left == dropped or left < last


def test_one_two_one_ranks_give_the_batches_of_one() -> None:
    plan = LARGE.plan()
    whole = [batch for step in epoch_of(plan, 0) for batch in as_lists(step)]
    position, found = 0, []
    for ranks, count in ((1, 3), (2, 4), (1, 10_000)):
        for step in islice(plan.rest_of_epoch(position, ranks), count):
            found += as_lists(step)
            position = step.position
    assert found == whole


@given(CASES, SEEDS, st.integers(0, 1000))
def test_the_order_is_a_function_of_data_seed_and_epoch(case: Case, seed: int, epoch: int) -> None:
    np.random.seed(seed)  # the global generator must not matter
    first = entries_of(epoch_of(case.plan(seed=seed), epoch))
    np.random.seed(seed + 1)
    other = case.plan(seed=seed)
    epoch_of(other, epoch + 1)
    assert entries_of(epoch_of(other, epoch)) == first


def test_every_epoch_seed_and_dataset_has_its_own_order() -> None:
    orders = [
        entries_of(epoch_of(LARGE.plan(seed=seed, fingerprint=name), epoch))
        for name in ("data", "other")
        for seed in range(3)
        for epoch in range(3)
    ]
    assert all(a != b for place, a in enumerate(orders) for b in orders[:place])


def test_epochs_do_not_repeat_the_same_batches_in_another_order() -> None:
    first, second = (
        {frozenset(batch) for step in epoch_of(LARGE.plan(), epoch) for batch in as_lists(step)}
        for epoch in range(2)
    )
    assert len(first & second) < len(first) / 10


def test_an_unshuffled_epoch_is_sorted_by_length_and_always_the_same() -> None:
    plan = replace(LARGE, shuffle=False).plan()
    first = entries_of(epoch_of(plan, 0))
    lengths = plan.frames[first].tolist()
    assert lengths == sorted(lengths, reverse=True)
    assert entries_of(epoch_of(plan, 5)) == first


@given(CASES)
def test_a_batch_comes_from_one_window_of_shards(case: Case) -> None:
    plan = replace(case, shuffle=True).plan()
    shards = np.repeat(np.arange(len(case.sizes)), case.sizes)
    for step in epoch_of(plan, 0):
        window = plan.window_shards(step.epoch, step.windows[0])
        assert len(window) <= case.window_shards
        assert set(shards[step.batches[0]].tolist()) <= set(window)


@given(CASES, st.floats(0.1, 3.5), st.integers(0, 50))
def test_every_epoch_has_as_many_utterances_of_a_dataset_as_its_weight_requires(
    case: Case, weight: float, epoch: int
) -> None:
    base = replace(case, shuffle=True).plan()
    shares = [DatasetShare(case.utterances), DatasetShare(case.utterances, weight)]
    shards = np.repeat(np.arange(len(case.sizes)), case.sizes)
    plan = EpochPlan(
        np.tile(base.frames, 2),
        np.concatenate([shards, shards + len(case.sizes)]),
        base.config,
        shares=shares,
    )
    taken = entries_of(epoch_of(plan, epoch))
    assert len(set(taken)) == len(taken)
    counts = np.bincount(np.array(taken) % (2 * case.utterances), minlength=2 * case.utterances)
    assert (counts[: case.utterances] == 1).all()
    assert counts[case.utterances :].sum() == round(weight * case.utterances)
    assert set(counts[case.utterances :]) <= {int(weight), int(weight) + 1}


def test_a_weight_below_one_takes_all_in_turn() -> None:
    base = LARGE.plan()
    shards = np.repeat(np.arange(20), 20)
    plan = EpochPlan(base.frames, shards, base.config, shares=[DatasetShare(400, 0.25)])
    epochs = [set(entries_of(epoch_of(plan, epoch))) for epoch in range(4)]
    assert [len(epoch) for epoch in epochs] == [100] * 4
    assert set.union(*epochs) == set(range(400))


def test_an_unshuffled_epoch_has_no_weights() -> None:
    base = LARGE.plan()
    with pytest.raises(ConfigError, match="every utterance once: leave the weights at 1"):
        EpochPlan(
            base.frames,
            np.zeros(400, int),
            base.config,
            shuffle=False,
            shares=[DatasetShare(400, 2.0)],
        )


def test_steps_continue_into_the_next_epoch() -> None:
    plan = LARGE.plan()
    first = list(takewhile(lambda step: step.epoch < 3, plan.steps(0, 2)))
    assert [entries_of([step]) for step in first] == [
        entries_of([step]) for epoch in range(3) for step in epoch_of(plan, epoch, 2)
    ]


def test_resuming_in_the_middle_plans_one_window(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = LARGE.plan()
    epoch = epoch_of(plan, 3)
    place = len(epoch) // 2
    planned = []

    def counting(*arguments: Any) -> Any:
        planned.append(arguments[-2:])
        return shuffle_window(*arguments)

    monkeypatch.setattr("aalbert.shards.loading.epoch_plan.shuffle_window", counting)
    again = next(LARGE.plan().steps(epoch[place - 1].position, 1))
    assert as_lists(again) == as_lists(epoch[place])
    assert len(planned) == 1


@pytest.mark.slow
def test_resuming_among_ten_million_utterances_takes_less_than_a_second() -> None:
    frames = np.random.default_rng(0).integers(140, 1_700, 10_000_000)
    shards = np.arange(len(frames)) // 1_300
    began = time.process_time()
    plan = EpochPlan(frames, shards, OrderConfig(frames_per_batch=48_000))
    next(plan.steps(plan.size // 2, 64))
    assert time.process_time() - began < 1
