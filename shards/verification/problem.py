"""The problems that verification finds in a dataset."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Problem:
    """One difference between a dataset and what was written.

    `where` is the key of the affected utterance, else the offset in the file in bytes, or None
    when the whole file is affected.
    """

    path: Path
    where: str | int | None
    what: str

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"
