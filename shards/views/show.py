"""One utterance, found by its key, and its metadata."""

import difflib
from typing import Any

import numpy as np
import pyarrow.compute as pc

from aalbert.errors import InputError
from aalbert.shards.format.index import location_columns
from aalbert.shards.reading.dataset import Dataset

SUGGESTIONS = 3
# Comparing two keys letter by letter takes 50 us, so only keys with many common pairs are compared.
COMPARED_KEYS = 2000
PAIR_LETTERS = 2


def row_of(dataset: Dataset, key: str) -> int:
    """Return the row of an utterance; raise `InputError` with similar keys when there is none."""
    row = int(pc.index(dataset.table.column("key"), key).as_py())
    if row < 0:
        similar = similar_keys(dataset, key)
        suggestion = f": did you mean {' or '.join(similar)}?" if similar else ""
        raise InputError(f"{dataset.place} has no utterance '{key}'{suggestion}")
    return row


def similar_keys(dataset: Dataset, key: str) -> list[str]:
    """Return up to `SUGGESTIONS` keys with a similar spelling, the most similar first."""
    keys = dataset.table.column("key")
    shared = np.zeros(len(keys), np.int16)
    for start in range(len(key) - PAIR_LETTERS + 1):
        pair = key[start : start + PAIR_LETTERS]
        shared += pc.match_substring(keys, pair, ignore_case=True).to_numpy()
    likely = np.argsort(-shared, kind="stable")[:COMPARED_KEYS]
    candidates: list[str] = keys.take(np.sort(likely)).to_pylist()
    return difflib.get_close_matches(key, candidates, n=SUGGESTIONS)


def about_row(dataset: Dataset, row: int) -> dict[str, Any]:
    """Return the metadata of an utterance, and the locations of its features."""
    values: dict[str, Any] = dataset.table.slice(row, 1).to_pylist()[0]
    features = dataset.manifest.features
    locations = {name: [field.name for field in location_columns(name)] for name in features}
    hidden = {"shard", *(column for columns in locations.values() for column in columns)}
    rate = next(iter(features.values())).sample_rate
    return {
        **{name: value for name, value in values.items() if name not in hidden},
        "duration_s": values["samples"] / rate,
        "shard": str(dataset.shard_paths[dataset.shards()[row]].relative_to(dataset.folder)),
        "features": {
            name: {column.removeprefix(f"{name}_"): values[column] for column in columns}
            for name, columns in locations.items()
        },
    }
