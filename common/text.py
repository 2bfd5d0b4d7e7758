"""Words and numbers as people read them: durations, bytes, shares, tables, dotted names."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def duration(seconds: float) -> str:
    """Return a duration in hours, minutes and seconds, as far as it has them."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


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
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    aligned = [
        [
            cell.rjust(width) if numbers and column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        for row in rows
    ]
    return "\n".join("  ".join(cells).rstrip() for cells in aligned)
