"""Words and numbers as people read them: durations, bytes, shares, tables, names from data."""

import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape, unescape
from typing import Any

# Python does not call these printable, yet they are no trick: what joins the letters of Persian, of
# Indian scripts and of emoji, and the spaces that do not break or are as wide as Japanese letters.
HARMLESS = "\u200c\u200d\u00a0\u3000"
# What is markup in Markdown at any place of a line; an underscore is none inside a word, a colon or
# a full stop only in addresses, which become links by themselves.
MARKUP = re.compile(r"[\\`*\[\]|~$!#{}]|(?<![^\W_])_|_(?![^\W_])|:(?=//)|(?<=www)\.", re.IGNORECASE)
LONGEST_REASON = 1_000
# Punctuation that a backslash makes no markup.
ESCAPED = re.compile(r"\\([!-/:-@\[-`{-~])")


def visible(text: str, *, kept: str = "") -> str:
    """Return a text with escapes, as `\\x1b`, for characters that are not printable.

    Names come from data and folders. They may hold line breaks, codes that move the cursor of a
    terminal, controls that turn the order of the text around them, and bytes that are no UTF-8.
    `kept` are characters that stay.
    """
    return "".join(
        character
        if character.isprintable() or character in HARMLESS or character in kept
        else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def is_unicode(text: str) -> bool:
    """Return whether a name is text: Python keeps other bytes of a name as lone surrogates."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def markdown(text: str) -> str:
    """Return a text for a line or cell of Markdown in which nothing is markup, on one line."""
    line = visible(" ".join(text.split()))
    return escape(MARKUP.sub(r"\\\g<0>", line), quote=False)


def duration(seconds: float) -> str:
    """Return a duration in hours, minutes and seconds, as far as it has them."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def without_markup(text: str) -> str:
    """Return a text in Markdown with its escapes taken back, those of `markdown` above all."""
    return unescape(ESCAPED.sub(r"\1", text))


def shortened(reason: str) -> str:
    """Return the first line of a reason, or its beginning: it may quote a whole file."""
    reason = reason.partition("\n")[0]
    return reason if len(reason) <= LONGEST_REASON else f"{reason[:LONGEST_REASON]}..."


UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def human_bytes(count: int) -> str:
    """Return a number of bytes in the largest unit of which there is at least one."""
    size = float(count)
    for unit in UNITS[:-1]:
        # What would be printed as 1024.0 is one of the next unit.
        if size < 1023.95:
            return f"{count:,} {unit}" if unit == UNITS[0] else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:,.1f} {UNITS[-1]}"


def percent(share: float) -> str:
    """Return a share as a percentage with one decimal."""
    return f"{100 * share:.1f} %"


def interval(bounds: tuple[float, float]) -> str:
    """Return the bounds of an interval of shares in percent."""
    return " to ".join(f"{100 * bound:.1f}" for bound in bounds)


def figure(value: float, *, share: bool) -> str:
    """Return a figure as tables state it: a share in percent, another number with its digits."""
    return percent(value) if share else number(value)


def figure_interval(bounds: tuple[float, float], *, share: bool) -> str:
    """Return the bounds of an interval of figures, those of shares in percent."""
    return interval(bounds) if share else " to ".join(map(number, bounds))


def number(value: float, sign: str = "") -> str:
    """Return a number with three decimals, or as many digits where it is small.

    With the `sign` `+` it has one.
    """
    return f"{value:{sign}.3f}" if abs(value) >= 0.1 or value == 0 else f"{value:{sign}.3g}"


def flat(document: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of a nested document with their dotted names."""
    for name, value in document.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def text_table(rows: Sequence[Sequence[str]], *, numbers: bool = False) -> str:
    """Return rows of equal length as lines whose columns line up.

    Cells stand at the left of their column; with `numbers` those after the first at the right.
    """
    rows = [[visible(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    aligned = [
        [
            cell.rjust(width) if numbers and column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        for row in rows
    ]
    return "\n".join("  ".join(cells).rstrip() for cells in aligned)
