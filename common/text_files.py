"""Reading the text files that users write, with whatever their editors put at the beginning."""

from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from pathlib import Path

from aalbert.errors import InputError


def read_text(path: Path) -> str:
    """Return a file's text: UTF-8 with or without a byte order mark, or UTF-16 with one.

    Raises `InputError` that names the line of the first byte that is no text.
    """
    data = path.read_bytes()
    utf_16 = data.startswith((BOM_UTF16_LE, BOM_UTF16_BE))
    try:
        return data.decode("utf-16" if utf_16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}:{line} is not UTF-8 (byte 0x{data[error.start]:02x}): save it as UTF-8"
        ) from error
