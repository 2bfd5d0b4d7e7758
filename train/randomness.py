"""Random numbers as functions of seed, row and purpose: without state, equal on every device.

PyTorch's generators give different numbers on a CPU and on a GPU, and their numbers depend on
everything that was drawn before. These are the outputs of splitmix64 (Steele, Lea and Flood 2014,
"Fast splittable pseudorandom number generators"), computed at any index of its sequence in 64-bit
integer arithmetic, which wraps around in the same way everywhere.
"""

import math
from dataclasses import dataclass

import xxhash
from torch import Tensor

# The constants of splitmix64, as signed numbers, which PyTorch uses.
GAMMA = 0x9E3779B97F4A7C15 - 2**64
FIRST_FACTOR = 0xBF58476D1CE4E5B9 - 2**64
SECOND_FACTOR = 0x94D049BB133111EB - 2**64

BITS_OF_A_FRACTION = 24


@dataclass(frozen=True)
class Draws:
    """The random numbers of one batch; `rows (batch,)` are the rows of its utterances in the data.

    The numbers of an utterance depend on `seed`, its row and the purpose, but not on its place in
    the batch or on the other utterances there.
    """

    seed: int
    rows: Tensor

    def keys(self, purpose: str) -> Tensor:
        """Return a random 64-bit integer for every utterance, `(batch,)`."""
        return random_bits(seed_of(self.seed, purpose), self.rows)


def random_bits(keys: Tensor | int, counters: Tensor) -> Tensor:
    """Return the outputs at the indices `counters` of the sequences that start at `keys`, int64.

    An output may be the key of another sequence.
    """
    value = (counters + 1) * GAMMA + keys
    value = (value ^ shift_right(value, 30)) * FIRST_FACTOR
    value = (value ^ shift_right(value, 27)) * SECOND_FACTOR
    return value ^ shift_right(value, 31)


def shift_right(value: Tensor, places: int) -> Tensor:
    """Shift int64 to the right and fill with zeros, as for unsigned numbers."""
    return (value >> places) & ((1 << (64 - places)) - 1)


def uniform(bits: Tensor) -> Tensor:
    """Return numbers in [0, 1), multiples of 2^-24, from random bits."""
    whole = shift_right(bits, 64 - BITS_OF_A_FRACTION)
    return whole.float() * 2.0**-BITS_OF_A_FRACTION


def uniform_integer(bits: Tensor, count: Tensor | int) -> Tensor:
    """Return integers in [0, count), `count` below 2^24, from random bits."""
    return (shift_right(bits, 64 - BITS_OF_A_FRACTION) * count) >> BITS_OF_A_FRACTION


def normal(bits: Tensor) -> Tensor:
    """Return standard normal numbers from random bits (Box and Muller 1958)."""
    unit = 2.0**-BITS_OF_A_FRACTION
    radius = (shift_right(bits, 64 - BITS_OF_A_FRACTION).float() + 1) * unit
    angle = (bits & (2**BITS_OF_A_FRACTION - 1)).float() * unit
    numbers: Tensor = (-2 * radius.log()).sqrt() * (2 * math.pi * angle).cos()
    return numbers


def seed_of(*parts: int | str) -> int:
    """Return a 63-bit seed that depends on all parts and only on them."""
    return xxhash.xxh3_64_intdigest("/".join(map(str, parts)).encode()) >> 1
