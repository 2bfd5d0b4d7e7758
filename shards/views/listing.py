"""Lists of utterances of a dataset: those that a filter leaves, and what the index says of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aalbert.errors import ConfigError, require
from aalbert.shards.reading.dataset import Dataset

SECONDS = "seconds"


@dataclass(frozen=True, kw_only=True)
class Filter:
    """The utterances to list: those of some `splits`, with values in columns, of some length.

    `values` are the values that a column may have; bounds of the duration are in seconds.
    """

    splits: Sequence[str] = ()
    values: Mapping[str, Sequence[str]] = field(default_factory=dict)
    shortest_s: float = 0.0
    longest_s: float = float("inf")

    def __post_init__(self) -> None:
        require(
            self.shortest_s <= self.longest_s,
            f"--min-seconds {self.shortest_s:g} must not be above --max-seconds {self.longest_s:g}",
        )


def read_values(assignments: Sequence[str]) -> dict[str, list[str]]:
    """Return `COLUMN=VALUE` texts as values by column; a column given again has either value."""
    values: dict[str, list[str]] = {}
    for assignment in assignments:
        column, equals, value = assignment.partition("=")
        if not equals:
            raise ConfigError(f"--where {assignment}: expected COLUMN=VALUE, such as speaker=84")
        values.setdefault(column, []).append(value)
    return values


def list_utterances(
    dataset: Dataset, chosen: Filter, columns: Sequence[str], most: int | None = None
) -> list[dict[str, Any]]:
    """Return the values of `columns` of the chosen utterances, in the order of the index.

    `seconds` is a column too. At most `most` of them are returned. Raises `InputError` for a column
    or a split that the dataset does not have.
    """
    rows = chosen_rows(dataset, chosen)[:most]
    found = {name: column_of(dataset, name) for name in columns}
    return [{name: found[name][row] for name in columns} for row in rows.tolist()]


def chosen_rows(dataset: Dataset, chosen: Filter) -> NDArray[np.int64]:
    """Return the rows that a filter leaves, rising."""
    durations = durations_s(dataset)
    keep = (durations >= chosen.shortest_s) & (durations <= chosen.longest_s)
    if chosen.splits:
        keep &= np.isin(np.arange(len(dataset)), dataset.rows(chosen.splits))
    for column, values in chosen.values.items():
        wanted = set(values)
        keep &= np.array([str(value) in wanted for value in column_of(dataset, column)])
    return np.flatnonzero(keep)


def column_of(dataset: Dataset, name: str) -> Sequence[Any]:
    """Return the value of every row in a column."""
    if name == SECONDS:
        return [round(seconds, 3) for seconds in durations_s(dataset).tolist()]
    return dataset.column(name)


def durations_s(dataset: Dataset) -> NDArray[np.float64]:
    """Return the duration of every row."""
    rate = next(iter(dataset.manifest.features.values())).sample_rate
    samples: NDArray[np.int64] = dataset.table.column("samples").to_numpy()
    return samples / rate
