"""Seeds as functions of what is drawn, so that no generator has a state to save."""

import torch
import xxhash


def seed_of(*parts: int | str) -> int:
    """Return a 63-bit seed that depends on all parts and on nothing else."""
    return xxhash.xxh3_64_intdigest("/".join(map(str, parts)).encode()) >> 1


def generator_of(*parts: int | str) -> torch.Generator:
    """Return a CPU generator seeded from the parts; its draws are the same on every machine."""
    return torch.Generator().manual_seed(seed_of(*parts))
