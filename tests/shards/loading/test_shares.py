"""The batches of a step, divided among ranks: the same with any number of them."""

from itertools import islice
from pathlib import Path

import pytest

from aalbert.errors import ConfigError
from aalbert.shards import Dataset, Loader, LoaderConfig, OrderConfig
from aalbert.shards.loading.loader import Stream

CONFIG = LoaderConfig(
    order=OrderConfig(frames_per_batch=150, window_shards=2, pool_batches=2), seed=5, prefetch=0
)
READ_AHEAD = LoaderConfig(order=CONFIG.order, seed=5, prefetch=3, readers=2)
BATCHES = 4


@pytest.fixture(scope="module")
def dataset(prepared: Path) -> Dataset:
    return Dataset(prepared)


def steps_of(dataset: Dataset, size: int, config: LoaderConfig = CONFIG) -> list[list[list[int]]]:
    """The rows of the batches of every step of two epochs, those of all ranks together."""
    of_ranks = []
    for rank in range(size):
        share = {"rank": rank, "world_size": size, "batches_per_step": BATCHES}
        loader = Loader(dataset.select(["*"]), config, **share)
        rows = [batch.rows.tolist() for _ in range(2) for batch in loader]
        count = BATCHES // size
        assert len(rows) == loader.epoch_ends(2)[-1] * count
        of_ranks.append([rows[start : start + count] for start in range(0, len(rows), count)])
        loader.close()
    return [sum(shares, []) for shares in zip(*of_ranks, strict=True)]


def test_a_step_has_the_same_batches_with_any_number_of_ranks(dataset: Dataset) -> None:
    steps = steps_of(dataset, 4)
    assert steps_of(dataset, 1) == steps and steps_of(dataset, 2) == steps
    assert sorted(sum(sum(steps, []), [])) == sorted([*range(len(dataset))] * 2)
    # The last step of an epoch was divided, or the numbers would agree without that.
    batches = sum(1 for _ in Loader(dataset.select(["*"]), CONFIG))
    assert batches % BATCHES


def test_readers_ahead_give_the_batches_of_a_share_in_order(dataset: Dataset) -> None:
    assert steps_of(dataset, 2, READ_AHEAD) == steps_of(dataset, 2)


def test_a_share_resumes_after_a_step_with_another_number_of_ranks(dataset: Dataset) -> None:
    one = Stream(Loader(dataset.select(["*"]), CONFIG, batches_per_step=BATCHES), 100)
    taken = [batch.rows.tolist() for batch in islice(one, 5 * BATCHES)]
    state = Stream(Loader(dataset.select(["*"]), CONFIG, batches_per_step=BATCHES), 100)
    list(islice(state, 2 * BATCHES))
    two = Stream(
        Loader(dataset.select(["*"]), CONFIG, rank=1, world_size=2, batches_per_step=BATCHES), 50
    )
    two.load_state_dict(state.state_dict())
    rest = [batch.rows.tolist() for batch in islice(two, 4)]
    assert rest == [*taken[10:12], *taken[14:16]]


def test_batches_that_ranks_cannot_share_are_refused(dataset: Dataset) -> None:
    with pytest.raises(ConfigError, match="batches_per_step is 3: give a multiple of 2, the num"):
        Loader(dataset.select(["*"]), CONFIG, world_size=2, batches_per_step=3)
