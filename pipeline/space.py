"""Room for what is about to be written."""

from aalbert.errors import StorageError

UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")


def human_bytes(size: float) -> str:
    """Return a size in the unit in which it has one to four digits before the point."""
    for unit in UNITS[:-1]:
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} {UNITS[-1]}"


def require_space(needed: int, free: int | None, place: str) -> None:
    """Raise `StorageError` when less than the needed bytes are free; None means not known."""
    if free is not None and needed > free:
        raise StorageError(
            f"{place} needs about {human_bytes(needed)}, {human_bytes(free)} are free there: "
            "make room, choose another --out, or prepare fewer features"
        )
