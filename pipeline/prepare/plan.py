"""The plan of a `prepare`: the utterances of each shard, a pure function of the inputs."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

import xxhash

from aalbert.common.files import canonical
from aalbert.errors import InputError
from aalbert.pipeline.corpora.corpus import Corpus, Utterance, estimated_seconds
from aalbert.pipeline.corpora.names import KEY_PATTERN, LONGEST_KEY
from aalbert.pipeline.prepare.config import PrepareConfig
from aalbert.shards.format.feature_settings import FeatureSettings

STORED_BYTES_PER_NUMBER = 2
# A small split is divided into up to this many shards, so that several workers have work.
PIECES = 16
SMALLEST_PIECE_BYTES = 2**21


@dataclass(frozen=True, kw_only=True)
class ShardTask:
    """One shard to write. It holds everything it needs, so any process can write it."""

    split: str
    shard: int
    utterances: tuple[Utterance, ...]
    fields: tuple[str, ...]
    config: PrepareConfig

    @property
    def name(self) -> str:
        """The path of the shard inside the dataset, without suffix."""
        return f"{self.split}/{self.shard:06d}"

    @property
    def stored_bytes(self) -> int:
        """The estimated size of the shard in bytes."""
        features = self.config.features
        return round(sum(stored_bytes(utterance, features) for utterance in self.utterances))


def make_plan(corpus: Corpus, config: PrepareConfig) -> list[ShardTask]:
    """Distribute the utterances of every split over shards.

    The order is that of a hash of the key, so that each shard is a random sample of
    its split: a reader that streams shards one after another meets all speakers.
    """
    check_keys(corpus)
    ordered = sorted(
        corpus.utterances,
        key=lambda each: (each.split, xxhash.xxh3_64_intdigest(each.key.encode("utf-8"))),
    )
    return [
        ShardTask(
            split=split,
            shard=number,
            utterances=piece,
            fields=corpus.fields,
            config=config,
        )
        for split, group in groupby(ordered, key=lambda utterance: utterance.split)
        for number, piece in enumerate(divide_split(tuple(group), config))
    ]


def plan_fingerprint(corpus: Corpus, config: PrepareConfig) -> str:
    """Return a hash of all that decides the bytes of the dataset; audio files count by sizes."""
    hasher = xxhash.xxh3_64()
    # In pieces: a large corpus as one document would take a gigabyte.
    for piece in plan_pieces(corpus, config):
        hasher.update(canonical(piece) + b"\n")
    return hasher.hexdigest()


def plan_pieces(corpus: Corpus, config: PrepareConfig) -> Iterator[Any]:
    """Yield all that decides the bytes of the dataset, as JSON documents."""
    yield {
        "corpus": corpus.name,
        "config": asdict(config),
        "skipped": [asdict(skip) for skip in corpus.skipped],
        "attachments": {name: each.xxh3 for name, each in corpus.attachments.items()},
    }
    for utterance in corpus.utterances:
        yield [
            utterance.key,
            utterance.split,
            utterance.source,
            utterance.size,
            utterance.start,
            utterance.end,
            utterance.speaker,
            dict(utterance.fields),
        ]


def check_keys(corpus: Corpus) -> None:
    """Raise `InputError` for a key of two files, or one that a tar reader could not parse."""
    paths: dict[str, Utterance] = {}
    for utterance in corpus.utterances:
        if not KEY_PATTERN.fullmatch(utterance.key):
            raise InputError(
                f"{utterance.place} would have the key '{utterance.key}': a key has up to "
                f"{LONGEST_KEY} letters, digits, '-' and '_'; rename the file"
            )
        if other := paths.get(utterance.key):
            raise InputError(
                f"two files have the key '{utterance.key}': {other.place} and {utterance.place}; "
                "remove one of them"
            )
        paths[utterance.key] = utterance


def divide_split(
    utterances: tuple[Utterance, ...], config: PrepareConfig
) -> list[tuple[Utterance, ...]]:
    """Divide the utterances of a split into shards of about equal stored size."""
    sizes = [stored_bytes(utterance, config.features) for utterance in utterances]
    total = sum(sizes)
    count = max(
        math.ceil(total / config.shard_bytes),
        min(PIECES, math.ceil(total / SMALLEST_PIECE_BYTES)),
    )
    pieces: list[list[Utterance]] = [[] for _ in range(count)]
    before = 0.0
    for utterance, size in zip(utterances, sizes, strict=True):
        pieces[min(count - 1, int(before * count / total))].append(utterance)
        before += size
    return [tuple(piece) for piece in pieces if piece]


def stored_bytes(utterance: Utterance, features: Sequence[FeatureSettings]) -> float:
    """Estimate the bytes of an utterance's features."""
    numbers_per_second = sum(
        settings.dims * 1000 / settings.frame_shift_ms for settings in features
    )
    return estimated_seconds(utterance) * numbers_per_second * STORED_BYTES_PER_NUMBER
