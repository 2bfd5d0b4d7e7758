"""A file of a corpus that its dataset keeps, such as a list of trials."""

from dataclasses import dataclass
from pathlib import Path

import xxhash

from aalbert.common.text_files import read_input
from aalbert.errors import InputError


@dataclass(frozen=True)
class Attachment:
    """A file to copy into the dataset, and the hash of its bytes when the corpus was read."""

    path: Path
    xxh3: str

    def read(self) -> bytes:
        """Return its bytes; `InputError` when they are no longer those of the corpus."""
        content = read_input(self.path)
        if xxhash.xxh3_128_hexdigest(content) != self.xxh3:
            raise InputError(
                f"{self.path} has changed since the inputs were listed: run the same command again"
            )
        return content


def attach(path: Path) -> Attachment:
    """Return a file as it is now; `InputError` when it cannot be read."""
    return Attachment(path, xxhash.xxh3_128_hexdigest(read_input(path)))
