"""Measure how well an epoch is shuffled: ours, WebDataset's buffer, and a full permutation.

It needs only numbers of LibriSpeech's size (281,241 utterances by 2,338 speakers, in shards of
1,300); no data are read. A buffer receives shards in random order and their samples in sequence.
It is measured on shards as `aalbert prepare` writes them, each a random sample of the corpus,
and on shards in the order of the corpus, speaker by speaker, as a simple script writes them.

`moved` is the mean distance between an utterance's places in two epochs as a share of the epoch
(1/3 for independent permutations). `speakers` is the number of speakers in a batch of 32.
`met_again` is the share of pairs of utterances in one batch that share a batch again in the next
epoch, as a multiple of the share for full permutations.

    python -m benchmarks.shuffle
"""

import json
from collections.abc import Callable, Iterator
from importlib.metadata import version

import numpy as np
import webdataset

from aalbert.shards.loading.config import OrderConfig
from aalbert.shards.loading.epoch_plan import EpochPlan
from aalbert.shards.loading.order import Rows, permutation

UTTERANCES, SPEAKERS, SHARD, BATCH = 281_241, 2_338, 1_300, 32
FRAMES = 1_000

Epoch = Callable[[int], Rows]


def planned(shard_of_place: Rows) -> Epoch:
    """Return our order; all lengths are equal here, so that all batches have one size."""
    config = OrderConfig(frames_per_batch=BATCH * FRAMES)
    frames = np.full(UTTERANCES, FRAMES)
    plan = EpochPlan(frames, shard_of_place, config, fingerprint="shuffle")

    def epoch(number: int) -> Rows:
        steps = plan.rest_of_epoch(number * UTTERANCES, 1)
        return np.concatenate([batch for step in steps for batch in step.batches])

    return epoch


def buffered(size: int) -> Epoch:
    """Return the order of WebDataset's pipeline with a buffer of `size` samples."""
    shards = -(-UTTERANCES // SHARD)
    shuffle_shards = webdataset.detshuffle(shards, initial=shards, seed=1)
    shuffle_samples = webdataset.detshuffle(size, seed=1)

    def places() -> Iterator[int]:
        for shard in shuffle_shards.run(iter(range(shards))):
            yield from range(shard * SHARD, min(UTTERANCES, (shard + 1) * SHARD))

    return lambda number: np.fromiter(shuffle_samples.run(places()), np.int64)


def quality(epoch: Epoch, speakers: Rows) -> dict[str, float]:
    """Measure two epochs of an order; `speakers` has the speaker of every place in the shards."""
    first, second = epoch(0), epoch(1)
    assert np.array_equal(np.sort(first), np.arange(UTTERANCES))
    batch_in_first, batch_in_second = batches_of(first), batches_of(second)
    moved = np.abs(np.argsort(first) - np.argsort(second)).mean() / UTTERANCES
    whole = first[: UTTERANCES // BATCH * BATCH].reshape(-1, BATCH)
    return {
        "moved": round(float(moved), 4),
        "speakers": round(float(np.mean([len(set(row)) for row in speakers[whole].tolist()])), 2),
        "met_again": round(pairs_kept(whole, batch_in_second) * (len(first) - 1) / (BATCH - 1), 1),
        "batches": int(batch_in_first.max()) + 1,
    }


def batches_of(order: Rows) -> Rows:
    """Return the number of the batch of every utterance."""
    batches = np.empty(UTTERANCES, np.int64)
    batches[order] = np.arange(UTTERANCES) // BATCH
    return batches


def pairs_kept(whole: Rows, batch_later: Rows) -> float:
    """Return the share of pairs within batches that are within one batch later."""
    later = np.sort(batch_later[whole], axis=1)
    kept = sum(int((later[:, gap:] == later[:, :-gap]).sum()) for gap in range(1, BATCH))
    return kept / (len(whole) * BATCH * (BATCH - 1) / 2)


def main() -> None:
    """Print a JSON line for each order."""
    by_speaker = np.sort(np.random.default_rng(0).integers(0, SPEAKERS, UTTERANCES))
    by_hash = by_speaker[permutation(UTTERANCES, "hash of the key")]
    shards = np.arange(UTTERANCES) // SHARD
    orders: list[tuple[str, Epoch, Rows]] = [
        ("a permutation of all", lambda number: permutation(UTTERANCES, "all", number), by_hash),
        ("aalbert", planned(shards), by_hash),
    ]
    for size in (1_000, 10_000):
        orders.append((f"webdataset, {size}, our shards", buffered(size), by_hash))
        orders.append((f"webdataset, {size}, by speaker", buffered(size), by_speaker))
    for name, epoch, speakers in orders:
        print(json.dumps({"order": name, **quality(epoch, speakers)}), flush=True)
    print(json.dumps({"webdataset": version("webdataset"), "numpy": version("numpy")}))


if __name__ == "__main__":
    main()
