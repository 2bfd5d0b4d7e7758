"""Room on a disk: enough or not, in words."""

from aalbert.errors import StorageError

UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def require_space(needed: int, free: int, place: str) -> None:
    """Raise `StorageError` when `needed` bytes do not fit into the `free` bytes of a place."""
    if needed > free:
        raise StorageError(
            f"needs about {human_bytes(needed)}, {human_bytes(free)} free in {place}: "
            "make room there, or choose another --out"
        )


def human_bytes(count: int) -> str:
    """Return a number of bytes in the largest unit of which there is at least one."""
    size = float(count)
    for unit in UNITS[:-1]:
        # What would be printed as 1024.0 is one of the next unit.
        if size < 1023.95:
            return f"{count:,} {unit}" if unit == UNITS[0] else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:,.1f} {UNITS[-1]}"
