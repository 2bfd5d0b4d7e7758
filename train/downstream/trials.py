"""The trials of verification: pairs of utterances, of the same speaker or of two."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from aalbert.common.files import file_digest
from aalbert.common.trial_list import read_trial_list
from aalbert.errors import ConfigError, InputError
from aalbert.shards.loading.order import Rows
from aalbert.shards.reading.dataset import Dataset
from aalbert.train.randomness import seed_of

# Up to this number of utterances all pairs are listed: eight million.
ALL_PAIRS_UP_TO = 4096
# The lists of VoxCeleb1's site by their usual names: -O has the trials of the 40 test speakers, -E
# of all, -H of all with one nationality and gender a trial; each was cleaned of wrong labels later.
PUBLISHED_LISTS = {
    "vox1-o-cleaned": "veri_test2.txt",
    "vox1-e-cleaned": "list_test_all2.txt",
    "vox1-h-cleaned": "list_test_hard2.txt",
    "vox1-o-original": "veri_test.txt",
    "vox1-e-original": "list_test_all.txt",
    "vox1-h-original": "list_test_hard.txt",
}
# The folder in a dataset.
STORED_IN = PurePosixPath("trials")


@dataclass(frozen=True, eq=False)
class Pairs:
    """The rows of both utterances of every trial; `same` tells whether they have one speaker."""

    left: Rows
    right: Rows
    same: NDArray[np.bool_]

    @property
    def rows(self) -> Rows:
        """The rows of all utterances in the trials, each once, rising."""
        return np.unique(np.concatenate([self.left, self.right]))


def stored_lists(dataset: Dataset) -> list[str]:
    """Return the names of the lists of trials that were prepared with a dataset."""
    paths = (PurePosixPath(record.path) for record in dataset.manifest.attachments)
    return [path.name for path in paths if path.parent == STORED_IN]


def choose_trials(name: str, dataset: Dataset) -> str:
    """Return the absolute path of the list of trials to test on, or the name of a stored one.

    Without a name it is the list that the dataset stores, if it stores one alone; a file has
    precedence over a stored list of the same name. Those of VoxCeleb1 have names of their own, as
    `vox1-o-cleaned`. Raises `InputError` when there is no such list, and `ConfigError` when there
    is nothing to choose from, or more than one.
    """
    if name and Path(name).is_file():
        return str(Path(name).resolve())
    stored = stored_lists(dataset)
    versions = [each for each in PUBLISHED_LISTS if each.startswith(f"{name.lower()}-")]
    if name and versions:
        described = " or ".join(f"{each} ({PUBLISHED_LISTS[each]})" for each in versions)
        raise ConfigError(f"trials.test {name} could be several lists: name {described}")
    file = PUBLISHED_LISTS.get(name.lower(), name)
    if name and file not in stored:
        also = f", or one that {dataset.place} stores ({', '.join(stored)})" if stored else ""
        wanted = "veri_test2.txt (the cleaned VoxCeleb1-O)" if file == name else file
        raise InputError(
            f"there is no list of trials {name}: get {wanted} from the VoxCeleb site and name it "
            f"with --set trials.test=FILE{also}"
        )
    if not name and len(stored) != 1:
        has = f"stores {', '.join(stored)}" if stored else "stores none"
        raise ConfigError(
            f"trials.test is not set and {dataset.place} {has}: name the list of trials to test "
            f"on with --set trials.test={stored[0] if stored else 'FILE'}"
        )
    return file or stored[0]


def file_of_list(place: str, dataset: Dataset) -> Path:
    """Return the file of a list that `choose_trials` found."""
    stored = not Path(place).is_absolute()
    return dataset.attached(str(STORED_IN / place)) if stored else Path(place)


def digest_of_list(place: str, dataset: Dataset) -> str:
    """Return the hash of a list that `choose_trials` found."""
    return file_digest(file_of_list(place, dataset))


def read_trials(place: str, dataset: Dataset) -> Pairs:
    """Return the trials of a list that `choose_trials` found, in VoxCeleb's format.

    Its lines are `1 id10001/VIDEO/00001.wav id10001/VIDEO/00002.wav`. Files are named by speaker,
    video and number with any suffix, or by key. Raises `InputError` for a malformed line and for an
    utterance that the dataset lacks.
    """
    path = file_of_list(place, dataset)
    row_of = rows_by_name(dataset)
    trials, sides = read_trial_list(path), []
    for trial in trials:
        if trial.same is None:
            raise InputError(
                f"{path}:{trial.line} does not say whether one speaker has both: expected "
                "'1 FILE FILE' (one speaker) or '0 FILE FILE' (two)"
            )
        names = trial.left, trial.right
        for name in names:
            if without_suffix(name) not in row_of:
                raise InputError(
                    f"{path}:{trial.line} names {name[:200]}, which {dataset.place} lacks"
                )
        sides.append([row_of[without_suffix(name)] for name in names])
    rows = np.array(sides, np.int64).reshape(-1, 2)
    same = np.array([trial.same for trial in trials], np.bool_)
    return pairs_of_both_kinds(str(path), rows, same)


def pairs_of_both_kinds(source: str, sides: NDArray[np.int64], same: NDArray[np.bool_]) -> Pairs:
    """Return trials; `InputError` unless some are of one speaker and some of two."""
    if same.all() or not same.any():
        raise InputError(
            f"{source} has {int(same.sum())} trials of one speaker and {int((~same).sum())} of "
            "two: both are needed"
        )
    return Pairs(sides[:, 0], sides[:, 1], same)


def rows_by_name(dataset: Dataset) -> dict[str, int]:
    """Return the row of every name that a trial may use: the key, and the end of the path."""
    names: dict[str, int] = {}
    columns = (dataset.table.column(name).to_pylist() for name in ("key", "source"))
    for row, (key, source) in enumerate(zip(*columns, strict=True)):
        names[key] = row
        names["/".join(PurePosixPath(source).with_suffix("").parts[-3:])] = row
    return names


def without_suffix(name: str) -> str:
    """Return the name of a file without its suffix; a key has none."""
    return str(PurePosixPath(name).with_suffix("")) if "/" in name else name


def draw_trials(dataset: Dataset, rows: Rows, count: int, seed: int) -> Pairs:
    """Draw trials of these rows by the seed, half of one speaker and half of two.

    Pairs are drawn without repetition; where there are fewer than `count`, all are taken.
    Raises `InputError` when no speaker has two utterances, or there is one speaker only.
    """
    column = dataset.column("speaker")
    _, speakers = np.unique([column[row] or "" for row in rows], return_inverse=True)
    generator = np.random.default_rng(seed_of(seed, "trials"))
    if len(rows) <= ALL_PAIRS_UP_TO:
        lefts, rights = np.triu_indices(len(rows), k=1)
    else:
        lefts, rights = draw_pairs(speakers, count, generator)
    same = speakers[lefts] == speakers[rights]
    kept = [
        generator.permutation(np.flatnonzero(same == wanted))[: count // 2]
        for wanted in (True, False)
    ]
    chosen = np.sort(np.concatenate(kept))
    sides = np.stack([rows[lefts[chosen]], rows[rights[chosen]]], axis=1)
    return pairs_of_both_kinds(f"{dataset.place}: the dev part", sides, same[chosen])


def draw_pairs(
    speakers: NDArray[np.int64], count: int, generator: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw pairs of many utterances, about `count` of one speaker and as many of two."""
    order = np.argsort(speakers, kind="stable")
    starts = np.searchsorted(speakers[order], speakers)
    sizes = np.bincount(speakers)[speakers]
    left = generator.integers(len(speakers), size=2 * count)
    partner = order[starts[left] + generator.integers(sizes[left])]
    right = np.where(np.arange(2 * count) < count, partner, generator.permutation(left))
    pairs = np.unique(np.sort(np.stack([left, right]), axis=0), axis=1)
    left, right = pairs[:, pairs[0] != pairs[1]]
    return left, right
