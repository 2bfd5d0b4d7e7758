"""The standard streams of a program, whose results, progress and errors may go to a full disk."""

import io
import os
import select
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

# What errors call it in place of a path.
STANDARD_OUTPUT = "standard output"


class Output(io.FileIO):
    """A standard stream of output, named in its errors; it raises one at most.

    What cannot be written after that is lost, or from the start on if it is `lossy`.
    """

    def __init__(self, descriptor: int, lossy: bool) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self.lossy = lossy

    def write(self, data: "ReadableBuffer", /) -> int:
        """Write bytes, and return how many; those that are lost count as written."""
        try:
            while (written := super().write(data)) is None:
                # Another program made a pipe or terminal, which it shares, one that does not wait.
                select.select([], [self], [])
            return written
        except OSError as error:
            if self.lossy:
                return len(memoryview(data))
            self.lossy = True
            error.filename = STANDARD_OUTPUT
            raise


def prepare_standard_streams() -> None:
    """Make of the standard streams what a program can rely on, before it opens anything else.

    Those that the caller has closed lead nowhere: a file opened later would take their place, and
    the messages with it. What cannot be written to standard error is lost: a log on a full disk
    ends no work, and changes no exit code.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    sys.stdout = text_output(Output(1, lossy=False), sys.stdout)
    sys.stderr = text_output(Output(2, lossy=True), sys.stderr)


def text_output(file: Output, before: TextIO | None) -> io.TextIOWrapper:
    """Return a stream of text in the encoding of the one before, if there was one.

    Not every terminal has every letter of a name: others are written as escapes. Standard error
    and a terminal get each line at once, and so does what was not buffered at all.
    """
    unbuffered = getattr(before, "write_through", False)
    return io.TextIOWrapper(
        io.BufferedWriter(file),
        encoding=getattr(before, "encoding", None),
        errors="backslashreplace",
        line_buffering=file.lossy or file.isatty() or unbuffered,
    )
