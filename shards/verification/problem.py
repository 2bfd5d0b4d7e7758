"""What is wrong with a dataset, and where."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Problem:
    """One thing that is not what was written.

    `where` is the key of the utterance it concerns, else the offset in the file in bytes,
    or None when it is the file as a whole.
    """

    path: Path
    where: str | int | None
    what: str

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"
