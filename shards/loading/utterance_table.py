"""The table of the selected utterances of several datasets: location and length of each.

An entry is the number of a selected utterance. Its row and its shard are numbered consecutively
through all datasets.
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
    """The utterances of selections, in arrays with one number per entry.

    `frames` is the number of frames that all `features` have in common; `skipped` is, for each
    feature, the number of leading frames without a counterpart in all other features.
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
        dataset, row = self._find(entry)
        return dataset.key(row)

    def describe(self, entry: int) -> str:
        """Return shard and key of an entry, or of a copy of it, for messages."""
        dataset, row = self._find(entry % len(self))
        return f"{dataset.shard_name(row)}, utterance '{dataset.key(row)}'"

    def raise_checksum_error(self, entry: int, feature: str) -> NoReturn:
        """Raise the `IntegrityError` for an entry whose bytes do not match their checksum."""
        dataset, row = self._find(entry)
        dataset.raise_checksum_error(row, feature)

    def _find(self, entry: int) -> tuple[Dataset, int]:
        """Return the dataset of an entry, and its row there."""
        for selection in self.selections:
            if entry < len(selection.rows):
                return selection.dataset, int(selection.rows[entry])
            entry -= len(selection.rows)
        raise IndexError(entry)


def make_table(selections: Sequence[Selection], features: Sequence[str]) -> UtteranceTable:
    """Return the table of the utterances of selections.

    Raises `ConfigError` when a dataset lacks a feature or has it with other settings, when the
    features have different frame shifts, or when their numbers of frames differ by more than
    their definitions allow.
    """
    require(bool(selections), "a loader needs a dataset")
    for name in features:
        require_same_feature(selections, name)
    stored = selections[0].dataset.manifest.features
    settings = [stored[name] for name in features]
    require_same_shift(settings)
    skipped = leading_frames(settings)
    counts = [stored_frames(selections, name) for name in features]
    used = [frames - leading for frames, leading in zip(counts, skipped, strict=True)]
    datasets = [selection.dataset for selection in selections]
    first_rows = accumulate(map(len, datasets), initial=0)
    first_shards = accumulate((len(dataset.shard_paths) for dataset in datasets), initial=0)
    table = UtteranceTable(
        selections=tuple(selections),
        features=tuple(features),
        dims=tuple(each.dims for each in settings),
        skipped=tuple(skipped),
        rows=np.concatenate(
            [
                selection.rows + first
                for selection, first in zip(selections, first_rows, strict=False)
            ]
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
        found = (f"{count[entry]} of {name}" for count, name in zip(counts, features, strict=True))
        raise ConfigError(
            f"{table.describe(entry)} has {' and '.join(found)} frames, which differ by more "
            f"than {spare}: they are not of the same recording; prepare the data again"
        )
    return table


def gather(selections: Sequence[Selection], columns: Iterable[NDArray[Any]]) -> NDArray[Any]:
    """Return one number per entry, from columns with one number per row of a dataset."""
    pairs = zip(columns, selections, strict=True)
    return np.concatenate([column[selection.rows] for column, selection in pairs])


def stored_frames(selections: Sequence[Selection], feature: str) -> Rows:
    """Return the number of frames in each entry's array of a feature."""
    return gather(selections, [selection.dataset.frames(feature) for selection in selections])


@dataclass(frozen=True, eq=False, kw_only=True)
class StoredArrays:
    """One feature of all entries: offset of each array in its shard, its frames and checksum.

    A frame has `frame_bytes`; the first `skipped` frames are not used.
    """

    name: str
    frame_bytes: int
    skipped: int
    offsets: Rows
    frames: Rows
    hashes: NDArray[np.uint64]


def find_arrays(table: UtteranceTable) -> list[StoredArrays]:
    """Return the locations of each feature's arrays, which only a reader needs."""
    found = []
    for name, dims, skipped in zip(table.features, table.dims, table.skipped, strict=True):
        locations = [selection.dataset.locations(name) for selection in table.selections]
        found.append(
            StoredArrays(
                name=name,
                frame_bytes=STORED_DTYPE.itemsize * dims,
                skipped=skipped,
                offsets=gather(table.selections, [each.offset for each in locations]),
                frames=stored_frames(table.selections, name),
                hashes=gather(table.selections, [each.xxh3 for each in locations]),
            )
        )
    return found
