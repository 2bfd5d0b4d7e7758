"""The utterances of a dataset to train on, to select on and to test on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from aalbert.common.text_files import read_text
from aalbert.errors import ConfigError, InputError
from aalbert.shards.loading.order import Rows
from aalbert.shards.reading.dataset import Dataset
from aalbert.train.downstream.config import DRAWN, SplitConfig
from aalbert.train.downstream.labels import UNKNOWN_CLASS


@dataclass(frozen=True)
class SplitRows:
    """The rows to train on, to select on and to test on: rising, and no row in two of them."""

    train: Rows
    dev: Rows
    test: Rows


def split_rows(
    dataset: Dataset, config: SplitConfig, classes: NDArray[np.int64], column: str = ""
) -> SplitRows:
    """Return the parts of a dataset; rows whose class is -1 are in none.

    `classes` gives the class of every row, -2 for one without training data, by the `column` of
    the index. Raises
    `InputError` when a list is missing or has an unknown key, when parts overlap, and
    when one is empty.
    """
    strata = speakers_of(dataset) if config.draw == "speakers" else classes
    everything = labelled(dataset, config.train, classes, column)
    listed = {
        name: read_list(path, dataset, everything)
        for name, path in (
            ("train", config.train_list),
            ("dev", config.dev_list),
            ("test", config.test_list),
        )
        if path
    }
    # Whoever lists what to train on means exactly that: an overlap is refused below.
    train = listed.get("train", reduce(np.setdiff1d, listed.values(), everything))
    parts: dict[str, Rows] = {}
    for name, split in (("test", config.test), ("dev", config.dev)):
        if name in listed:
            parts[name] = listed[name]
        elif split == DRAWN:
            parts[name] = draw(dataset, train, strata, config, name)
            train = np.setdiff1d(train, parts[name])
        else:
            parts[name] = labelled(dataset, split, classes, column)
    splits = SplitRows(train, parts["dev"], parts["test"])
    check_splits(dataset, splits)
    return replace(splits, train=take_proportion(dataset, train, config))


def require_splits(dataset: Dataset, config: SplitConfig, hint: str = "") -> None:
    """Raise `ConfigError` for a part whose split the dataset lacks, with what can be set."""
    parts = {"train": config.train}
    if not config.dev_list:
        parts["dev"] = config.dev
    if not config.test_list:
        parts["test"] = config.test
    for part, split in parts.items():
        if split != DRAWN:
            drawn = "" if part == "train" else f", or use --set splits.{part}={DRAWN}"
            drawn += hint
            rows_of_split(dataset, split, part, drawn)


def rows_of_split(dataset: Dataset, split: str, part: str, also: str) -> Rows:
    """Return the rows of a part's split; `ConfigError` says what to set, or `also`, without it."""
    try:
        return dataset.rows([split])
    except ConfigError as error:
        raise ConfigError(f"{error}; name another with --set splits.{part}=SPLIT{also}") from error


def labelled(dataset: Dataset, split: str, classes: NDArray[np.int64], column: str) -> Rows:
    """Return the rows of a split that have a class; `InputError` for one without training data."""
    rows = dataset.rows([split])
    unknown = rows[classes[rows] == UNKNOWN_CLASS]
    if len(unknown):
        raise InputError(
            f"{dataset.place}: {len(unknown)} utterances of the split '{split}' have a label "
            f"({column}) without training data, for example '{dataset.key(int(unknown[0]))}'; draw "
            "the parts of one split, such as --set splits.test=drawn, or name other splits"
        )
    return rows[classes[rows] >= 0]


def draw(
    dataset: Dataset, rows: Rows, strata: NDArray[np.int64], config: SplitConfig, name: str
) -> Rows:
    """Draw about `drawn_proportion` of the rows from (seed, key), or whole speakers.

    Of utterances, the same share of every stratum is drawn, rounded, so that none may be drawn
    from a small one. If none is drawn at all, one utterance of the largest stratum is, unless it
    has no other.
    """
    if config.draw == "speakers":
        groups = np.unique(strata[rows])
        numbers = hashes([f"{name}/{config.draw_seed}/{group}" for group in speaker_names(dataset)])
        count = max(1, round(config.drawn_proportion * len(groups)))
        chosen = groups[np.argsort(numbers[groups], kind="stable")[:count]]
        return rows[np.isin(strata[rows], chosen)]
    keys = dataset.table.column("key").take(rows).to_pylist()
    numbers = hashes([f"{name}/{config.draw_seed}/{key}" for key in keys])
    order = np.lexsort((numbers, strata[rows]))
    _, first, counts = np.unique(strata[rows][order], return_index=True, return_counts=True)
    taken = np.round(config.drawn_proportion * counts).astype(np.int64)
    if len(rows) and not taken.any() and counts.max() > 1:
        taken[counts.argmax()] = 1
    places = np.arange(len(rows)) - np.repeat(first, counts)
    return np.sort(rows[order[places < np.repeat(taken, counts)]])


def take_proportion(dataset: Dataset, rows: Rows, config: SplitConfig) -> Rows:
    """Return the share of the training part to train on, at least one utterance.

    A smaller share is part of every larger one.
    """
    if config.proportion == 1:
        return rows
    keys = dataset.table.column("key").take(rows).to_pylist()
    numbers = hashes([f"proportion/{config.draw_seed}/{key}" for key in keys])
    count = max(1, round(config.proportion * len(rows)))
    return np.sort(rows[np.argsort(numbers, kind="stable")[:count]])


def hashes(texts: Sequence[str]) -> NDArray[np.uint64]:
    """Return the hash of every text."""
    return np.array([xxhash.xxh3_64_intdigest(text.encode()) for text in texts], np.uint64)


def speaker_names(dataset: Dataset) -> list[str]:
    """Return the names of a dataset's speakers, sorted; the empty name where there is none."""
    return sorted({name or "" for name in dataset.column("speaker")})


def speakers_of(dataset: Dataset) -> NDArray[np.int64]:
    """Return the number of the speaker of every row; `InputError` when some have none."""
    names = speaker_names(dataset)
    if "" in names:
        raise InputError(
            f"{dataset.place}: some utterances have no speaker, so whole speakers cannot be "
            "drawn: use --set splits.draw=utterances"
        )
    number = {name: index for index, name in enumerate(names)}
    return np.array([number[name or ""] for name in dataset.column("speaker")], np.int64)


def read_list(place: str, dataset: Dataset, rows: Rows) -> Rows:
    """Return the rows whose keys a file lists, one a line; `InputError` when some are missing."""
    path = Path(place)
    if not path.is_file():
        raise InputError(f"there is no split file {path}: expected one key a line")
    names = read_text(path).split()
    keys = dataset.table.column("key").take(rows).to_pylist()
    row_of = dict(zip(keys, rows.tolist(), strict=True))
    if not names:
        raise InputError(f"{path} is empty: expected one key a line")
    missing = [name for name in names if name not in row_of]
    if missing:
        raise InputError(
            f"{path} names {len(missing)} utterances (of {len(names)}) that {dataset.place} does "
            "not have in the split to train on, or that have no label, for example "
            f"'{missing[0]}': take them out of the list"
        )
    return np.unique(np.array([row_of[name] for name in names], np.int64))


def check_splits(
    dataset: Dataset, splits: SplitRows, *, without_train: bool = False, without_dev: bool = False
) -> None:
    """Raise `InputError` when a part is empty or shares an utterance with another.

    The training part may be empty where nothing is fitted, the dev part where nothing is selected.
    """
    rows_of = {"train": splits.train, "dev": splits.dev, "test": splits.test}
    optional = {"train": without_train, "dev": without_dev}
    for name, rows in rows_of.items():
        if len(rows) == 0 and not optional.get(name):
            raise InputError(
                f"{dataset.place}: the {name} part is empty: name a split with utterances that "
                f"have a label (splits.{name}), or raise splits.drawn_proportion"
            )
    for one, other in (("train", "dev"), ("train", "test"), ("dev", "test")):
        shared = np.intersect1d(rows_of[one], rows_of[other])
        if len(shared):
            raise InputError(
                f"{dataset.place}: {len(shared)} utterances are in both {one} and {other}, for "
                f"example '{dataset.key(int(shared[0]))}': name other splits or lists"
            )
