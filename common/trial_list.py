"""Lists of trials in VoxCeleb's format: two utterances a line, and whether one speaker has both."""

import re
from dataclasses import dataclass
from pathlib import Path

from aalbert.common.text_files import read_lines
from aalbert.errors import InputError

LINE = re.compile(r"(?:([01])\s+)?(\S+)\s+(\S+)")


@dataclass(frozen=True)
class ListedTrial:
    """A line of a list: both utterances by name, and whether they have one speaker, if it says."""

    line: int
    same: bool | None
    left: str
    right: str


def read_trial_list(path: Path) -> list[ListedTrial]:
    """Return the trials of a list: `1 FILE FILE` (one speaker), `0 FILE FILE` (two), `FILE FILE`.

    Raises `InputError` for any other line, and for a list in which only some say 1 or 0.
    """
    trials = []
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        match = LINE.fullmatch(line.strip())
        if match is None:
            raise InputError(
                f"{path}:{number} is '{line.strip()[:80]}': expected '1 FILE FILE' (one speaker) "
                "or '0 FILE FILE' (two)"
            )
        label, left, right = match.groups()
        trials.append(ListedTrial(number, None if label is None else label == "1", left, right))
    unlabelled = next((trial for trial in trials if trial.same is None), None)
    if unlabelled is not None and any(trial.same is not None for trial in trials):
        raise InputError(
            f"{path}:{unlabelled.line} says neither 1 nor 0 for its trial, other lines do: give "
            "all lines one, or none"
        )
    return trials
