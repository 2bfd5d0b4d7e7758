"""Room on a disk: enough or not, in words."""

from aalbert.common.text import human_bytes
from aalbert.errors import StorageError


def require_space(needed: int, free: int, place: str) -> None:
    """Raise `StorageError` when `needed` bytes do not fit into the `free` bytes of a place."""
    if needed > free:
        raise StorageError(
            f"needs about {human_bytes(needed)}, {human_bytes(free)} free in {place}: "
            "make room there, or choose another --out"
        )
