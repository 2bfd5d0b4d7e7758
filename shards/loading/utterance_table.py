"""The table of the selected utterances of several datasets: where each lies, and how long it is.

An entry is the number of a selected utterance; its row counts through the datasets one after
another, and its shard through their shards.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from aalbert.errors import ConfigError, require
from aalbert.shards.loading.order import Rows
from aalbert.shards.reading.compatibility import (
    leading_frames,
    require_same_feature,
    require_same_shift,
    spare_frames,
)
from aalbert.shards.reading.dataset import STORED_DTYPE, Dataset, Selection


@dataclass(frozen=True, eq=False, kw_only=True)
class UtteranceTable:
    """The utterances of selections, in arrays with a number for each entry.

    `frames` counts those that all `features` have; `skipped` says how many frames each feature
    has before the first that belongs to one of every other.
    """

    selections: tuple[Selection, ...]
    features: tuple[str, ...]
    dims: tuple[int, ...]
    skipped: tuple[int, ...]
    rows: Rows
    shards: Rows
    frames: Rows

    def __len__(self) -> int:
        return len(self.rows)

    def key(self, entry: int) -> str:
        """Return the key of an entry."""
        dataset, row = self._place(entry)
        return dataset.key(row)

    def describe(self, entry: int) -> str:
        """Return shard and key of an entry, or of a copy of it, for messages."""
        dataset, row = self._place(entry % len(self))
        return f"{dataset.shard_name(row)}, utterance '{dataset.key(row)}'"

    def refuse(self, entry: int, feature: str) -> NoReturn:
        """Raise `IntegrityError` about an entry whose bytes have another checksum."""
        dataset, row = self._place(entry)
        dataset.refuse_row(row, feature)

    def _place(self, entry: int) -> tuple[Dataset, int]:
        """Return the dataset of an entry, and its row there."""
        for some in self.selections:
            if entry < len(some.rows):
                return some.dataset, int(some.rows[entry])
            entry -= len(some.rows)
        raise IndexError(entry)


def make_table(selections: Sequence[Selection], features: Sequence[str]) -> UtteranceTable:
    """Gather where the utterances of selections are, and how many frames all features have.

    Raises `ConfigError` when a dataset lacks a feature or has it with other settings, when
    frames of the features are not equally far apart, or when their numbers differ by more than
    their definitions do.
    """
    require(bool(selections), "a loader needs a dataset")
    for name in features:
        require_same_feature(selections, name)
    stored = selections[0].dataset.manifest.features
    settings = [stored[name] for name in features]
    require_same_shift(settings)
    skipped = leading_frames(settings)
    counts = [stored_frames(selections, name) for name in features]
    used = [frames - some for frames, some in zip(counts, skipped, strict=True)]
    datasets = [some.dataset for some in selections]
    first_rows = accumulate(map(len, datasets), initial=0)
    first_shards = accumulate((len(dataset.shard_paths) for dataset in datasets), initial=0)
    table = UtteranceTable(
        selections=tuple(selections),
        features=tuple(features),
        dims=tuple(some.dims for some in settings),
        skipped=tuple(skipped),
        rows=np.concatenate(
            [some.rows + first for some, first in zip(selections, first_rows, strict=False)]
        ),
        shards=gather(
            selections,
            [data.shards() + first for data, first in zip(datasets, first_shards, strict=False)],
        ),
        frames=np.minimum.reduce(used),
    )
    spare = spare_frames(settings)
    uneven = np.flatnonzero(np.maximum.reduce(used) - table.frames > spare)
    if len(uneven):
        entry = int(uneven[0])
        found = (f"{some[entry]} of {name}" for some, name in zip(counts, features, strict=True))
        raise ConfigError(
            f"{table.describe(entry)} has {' and '.join(found)} frames, which differ by more "
            f"than {spare}: they are not of the same recording; prepare the data again"
        )
    return table


def gather(selections: Sequence[Selection], columns: Iterable[NDArray[Any]]) -> NDArray[Any]:
    """Return a number of every entry, from columns that have one for every row of a dataset."""
    pairs = zip(columns, selections, strict=True)
    return np.concatenate([column[some.rows] for column, some in pairs])


def stored_frames(selections: Sequence[Selection], feature: str) -> Rows:
    """Return the frames of every entry's array of a feature."""
    return gather(selections, [some.dataset.frames(feature) for some in selections])


@dataclass(frozen=True, eq=False, kw_only=True)
class StoredArrays:
    """One feature of all entries: where the array of each begins in its shard, frames, checksum.

    A frame takes `row_bytes`; the first `skipped` frames are not used.
    """

    name: str
    row_bytes: int
    skipped: int
    offsets: Rows
    frames: Rows
    hashes: NDArray[np.uint64]


def find_arrays(table: UtteranceTable) -> list[StoredArrays]:
    """Gather where the arrays of each feature lie, which only those who read them need."""
    found = []
    for name, dims, skipped in zip(table.features, table.dims, table.skipped, strict=True):
        places = [some.dataset.places(name) for some in table.selections]
        found.append(
            StoredArrays(
                name=name,
                row_bytes=STORED_DTYPE.itemsize * dims,
                skipped=skipped,
                offsets=gather(table.selections, [place.offset for place in places]),
                frames=stored_frames(table.selections, name),
                hashes=gather(table.selections, [place.xxh3 for place in places]),
            )
        )
    return found
