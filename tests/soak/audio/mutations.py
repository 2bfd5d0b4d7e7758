"""Ways to damage a file, as pure functions of its bytes and a generator of random numbers."""

import re
from collections.abc import Callable

from numpy.random import Generator

Mutation = Callable[[bytes, Generator], bytes]

# Where a part of a file begins: a page of Ogg, a chunk, a frame of MP3 or FLAC.
PARTS = re.compile(
    rb"OggS|[A-Za-z][A-Za-z0-9]{3}(?=.{0,16}\0)|\xff[\xfb\xf3\xf2\xfa\xf8]", re.DOTALL
)
NAMES = re.compile(rb"[A-Za-z][A-Za-z0-9 ]{3}")
HEADER_BYTES = 160
ID3_V1 = b"TAG" + b"title".ljust(125)
ID3_V2 = b"ID3\x04\0\0\0\0\0\x0a" + bytes(10)
APE = b"APETAGEX" + b"\xd0\x07\0\0" + b"\x20\0\0\0" + bytes(16)


def position(content: bytes, generator: Generator) -> int:
    """Any position in a file, in a third of the cases in its header or near its end."""
    places = (len(content), min(len(content), HEADER_BYTES), min(len(content), 64))
    kind = int(generator.choice(3, p=(2 / 3, 2 / 9, 1 / 9)))
    place = int(generator.integers(0, places[kind] + 1))
    return len(content) - place if kind == 2 else place


def cut(content: bytes, generator: Generator) -> bytes:
    return content[: position(content, generator)]


def flip_bits(content: bytes, generator: Generator) -> bytes:
    changed = bytearray(content)
    for _ in range(int(generator.choice((1, 1, 1, 2, 9)))):
        place = min(position(content, generator), len(content) - 1)
        changed[place] ^= 1 << int(generator.integers(8))
    return bytes(changed)


def overwrite(content: bytes, generator: Generator) -> bytes:
    start, count = position(content, generator), int(generator.choice((1, 2, 4, 16, 300, 3_000)))
    count = min(count, len(content) - start)
    filling = (bytes(count), b"\xff" * count, generator.bytes(count))
    return content[:start] + filling[int(generator.integers(3))] + content[start + count :]


def change_size(content: bytes, generator: Generator) -> bytes:
    """Write another number into a field that is, or may be, a size."""
    names = [match.end() for match in NAMES.finditer(content[:4096])]
    fields = [name + after for name in names for after in (0, 4, 12)] + list(range(4, 48, 2))
    place, count = int(generator.choice(fields)), int(generator.choice((4, 4, 8)))
    order = ("little", "big")[int(generator.integers(2))]
    old = int.from_bytes(content[place : place + count], order)  # type: ignore[arg-type]
    top = (1 << 8 * count) - 1
    new = (0, top, top >> 1, old + 1, old - 1)[int(generator.integers(5))]
    field = (new & top).to_bytes(count, order)  # type: ignore[arg-type]
    return content[:place] + field + content[place + count :]


def split(content: bytes, generator: Generator) -> list[bytes]:
    """A file in five pieces: the middle three are chunks, pages or frames, where it has such."""
    starts = [match.start() for match in PARTS.finditer(content) if match.start()]
    if len(starts) >= 4 and generator.random() < 0.8:
        first = int(generator.integers(len(starts) - 3))
        places = starts[first : first + 4]
    else:
        places = sorted(int(generator.integers(len(content) + 1)) for _ in range(4))
    borders = [0, *places, len(content)]
    return [content[start:stop] for start, stop in zip(borders, borders[1:], strict=False)]


def double_part(content: bytes, generator: Generator) -> bytes:
    before, part, *rest = split(content, generator)
    return b"".join((before, part, part, *rest))


def remove_part(content: bytes, generator: Generator) -> bytes:
    before, _, *rest = split(content, generator)
    return b"".join((before, *rest))


def swap_parts(content: bytes, generator: Generator) -> bytes:
    before, one, between, other, after = split(content, generator)
    return b"".join((before, other, between, one, after))


def remove_middle(content: bytes, generator: Generator) -> bytes:
    start, stop = sorted(int(generator.integers(len(content) + 1)) for _ in range(2))
    return content[:start] + content[stop:]


def around(content: bytes, generator: Generator) -> bytes:
    """Something before or after the file that may be no part of it."""
    extra = (
        generator.bytes(int(generator.choice((1, 3, 100, 5_000)))),
        content,
        content[: len(content) // 3],
        *(ID3_V1, ID3_V2, APE, b"data" + (100).to_bytes(4, "little") + generator.bytes(100)),
    )
    piece = extra[int(generator.integers(len(extra)))]
    return content + piece if generator.random() < 0.5 else piece + content


MUTATIONS: tuple[Mutation, ...] = (
    *(cut, flip_bits, overwrite, change_size, double_part, remove_part, swap_parts),
    *(remove_middle, around),
)
# What leaves the audio whole, and must be read as if it were not there.
HARMLESS = {
    "ID3v1": ID3_V1,
    "ID3v2": ID3_V2,
    "APE": APE,
    "zeros": bytes(512),
}
