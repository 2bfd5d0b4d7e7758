"""The problems that may be found in a dataset."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One difference between a dataset and what was written, in the file at a path or URL.

    `where` is the key of the affected utterance, else the offset in the file in bytes, or None
    when the whole file is affected.
    """

    path: str
    where: str | int | None
    what: str

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"
