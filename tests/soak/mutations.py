"""Damage to any file: to its bytes, and to what stands in text."""

import re
from random import Random

# What people and programs write where something else was expected.
HOSTILE = (
    *(b"", b"\0", b'"', b"'", b"\xff\xfe", b"\xef\xbb\xbf", b"\r", b"\n\n", b"\t", b",", b"\\"),
    *(b"null", b"true", b"NaN", b"-inf", b"-1", b"0", b"1e999", b"1e5", b"0x10", b"9" * 30),
    *(b"9" * 5_000, b"[]", b"{}", b"[" * 200, b'{"a":' * 200, b"..", b"/etc/passwd", b"*a", b"&a"),
    *(b"!!python/object:os.system", b"\xe2\x80\xae", b"\xed\xa0\x80", b"\\ud800", b"a" * 100_000),
)
WORD = re.compile(rb"[\w.+-]+")
MARK = re.compile(rb"[^\w\s]")


def damaged(content: bytes, random: Random) -> bytes:
    """A file with one to three kinds of damage."""
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        content = random.choice(DAMAGES)(content, random)
    return content


def cut(content: bytes, random: Random) -> bytes:
    return content[: random.randrange(len(content) + 1)]


def flip_bit(content: bytes, random: Random) -> bytes:
    changed = bytearray(content or b"\0")
    changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def overwrite(content: bytes, random: Random) -> bytes:
    start, count = random.randrange(len(content) + 1), random.choice((1, 4, 40, 400))
    return content[:start] + random.randbytes(count) + content[start + count :]


def insert(content: bytes, random: Random) -> bytes:
    start = random.randrange(len(content) + 1)
    return content[:start] + random.choice(HOSTILE) + content[start:]


def replace_word(content: bytes, random: Random) -> bytes:
    """Put something else for a word or a number."""
    return replace(WORD, content, random, random.choice(HOSTILE))


def replace_mark(content: bytes, random: Random) -> bytes:
    """Remove, double or change a mark such as a comma, a quote or a bracket."""
    return replace(MARK, content, random, random.choice((b"", b'"', b",", b"[", b"}", b":", b" ")))


def replace(pattern: re.Pattern[bytes], content: bytes, random: Random, new: bytes) -> bytes:
    places = [match.span() for match in pattern.finditer(content)]
    start, stop = random.choice(places or [(0, 0)])
    return content[:start] + new + content[stop:]


def change_lines(content: bytes, random: Random) -> bytes:
    """Remove or double a line, or put it elsewhere."""
    lines = content.splitlines(keepends=True) or [b""]
    line = lines.pop(random.randrange(len(lines)))
    for _ in range(random.randrange(3)):
        lines.insert(random.randrange(len(lines) + 1), line)
    return b"".join(lines)


DAMAGES = (cut, flip_bit, overwrite, insert, replace_word, replace_word, replace_mark, change_lines)
