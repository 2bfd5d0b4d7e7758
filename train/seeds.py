"""Seeds as functions of what is drawn, so that no generator has a state to save."""

import xxhash


def seed_of(*parts: int | str) -> int:
    """Return a 63-bit seed that depends on all parts and on nothing else."""
    return xxhash.xxh3_64_intdigest("/".join(map(str, parts)).encode()) >> 1
