"""Reading the text files that users write, with whatever their editors put at the beginning."""

import errno
import gzip
import re
import zlib
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from pathlib import Path

from aalbert.errors import InputError

PACKED_SUFFIX = ".gz"
NO_FILE = {errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.ELOOP}
LINE_END = re.compile(r"\r\n|\n|\r")


def read_text(path: Path) -> str:
    """Return a file's text, of a file `.gz` that of what is packed in it.

    It is UTF-8 with or without a byte order mark, or UTF-16 with one. Raises `InputError` that
    names the line of the first byte that is no text, or the file when there is none.
    """
    data = read_input(path)
    if path.suffix.lower() == PACKED_SUFFIX:
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{path} is not a complete gzip file: {error}") from error
    return decode_text(data, str(path))


def read_input(path: Path) -> bytes:
    """Return the bytes of a file that a user named, or that was found; `InputError` if it is none.

    It may have gone since it was found, or be a link to a file that is not there.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        if error.errno not in NO_FILE:
            raise
        raise InputError(
            f"{path} cannot be read ({error.strerror}): put the file there, or take it away from "
            "the inputs, and run the command again"
        ) from error


def read_lines(path: Path) -> list[str]:
    """Return the lines of a file's text as `read_text` has it, without their ends.

    Lines end as text files have it, with LF, CR LF or CR: `str.splitlines` would divide a line
    at other characters too, such as the line separator of Unicode.
    """
    return text_lines(read_text(path))


def text_lines(text: str) -> list[str]:
    """Return the lines of a text, without their ends."""
    lines = LINE_END.split(text)
    return lines if lines[-1] else lines[:-1]


def decode_text(data: bytes, place: str) -> str:
    """Return bytes as text by the rule of `read_text`; `place` is what an error names."""
    utf_16 = data.startswith((BOM_UTF16_LE, BOM_UTF16_BE))
    try:
        text = data.decode("utf-16" if utf_16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        encoding = "UTF-16" if utf_16 else "UTF-8"
        raise InputError(
            f"{place}:{line} is not {encoding} (byte 0x{data[error.start]:02x}): save it as UTF-8"
        ) from error
    if "\0" in text:
        line = len(LINE_END.findall(text, 0, text.index("\0"))) + 1
        raise InputError(
            f"{place}:{line} holds a NUL, as UTF-16 without a byte order mark does: "
            "save it as UTF-8"
        )
    return text
