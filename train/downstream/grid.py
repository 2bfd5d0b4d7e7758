"""The combinations of settings that a sweep tries."""

import itertools
from collections.abc import Sequence

from aalbert.errors import ConfigError

# The usual abbreviation of the setting that is swept most.
SHORT_NAMES = {"lr": "learning_rate"}

Assignments = tuple[str, ...]


def folder_name(point: Assignments) -> str:
    """Return the name of a point's folder: its settings, with `-` for what is no file name."""
    text = "_".join(point)
    return "".join(letter if letter.isalnum() or letter in "=.-_" else "-" for letter in text)


def make_grid(assignments: Sequence[str]) -> list[Assignments]:
    """Return every combination of `name=value,value` texts; commas within brackets stay.

    Raises `ConfigError` when nothing is swept, or a combination is repeated.
    """
    choices = []
    for assignment in assignments:
        name, equals, values = assignment.partition("=")
        if not equals:
            raise ConfigError(f"--set {assignment}: expected NAME=VALUE,VALUE")
        name = SHORT_NAMES.get(name.strip(), name.strip())
        choices.append([f"{name}={value}" for value in split_values(values)])
    grid = list(itertools.product(*choices))
    if len(grid) < 2:
        raise ConfigError(
            "a sweep needs a setting with several values, such as --set learning_rate=1e-4,1e-3"
        )
    if len({folder_name(point) for point in grid}) < len(grid):
        raise ConfigError(
            f"--set {' '.join(assignments)}: two combinations would have "
            "the same folder, whose name is made of their letters and digits"
        )
    return grid


def split_values(text: str) -> list[str]:
    """Return the values between commas; commas within brackets do not separate."""
    values, depth = [""], 0
    for letter in text:
        depth += (letter in "[{") - (letter in "]}")
        if letter == "," and depth == 0:
            values.append("")
        else:
            values[-1] += letter
    return [value.strip() for value in values]
