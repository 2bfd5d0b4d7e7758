"""Keys for utterances whose corpus has none of its own."""

import os
import re

import xxhash

from aalbert.pipeline.prepare.plan import LONGEST_KEY

# What a key can say without loss: folders and a name of plain letters, and a suffix.
PLAIN_PATTERN = re.compile(r"(?P<path>\w+(?:/\w+)*)\.(?P<suffix>[a-zA-Z0-9]+)", re.ASCII)
HASH_DIGITS = 16
LOOKS_HASHED = re.compile(rf"(.*-)?[0-9a-f]{{{HASH_DIGITS}}}")
NOT_IN_KEYS = re.compile(r"[^\w-]", re.ASCII)


def key_of(source: str, start: float = 0.0, end: float | None = None) -> str:
    """Return the key of a recording, or of its part between two times in seconds.

    It depends on the arguments alone, so a key stays when other files come or go.
    `anna/monday/1.wav` becomes `anna-monday-1`, and every suffix but `.wav` is kept
    behind two hyphens, as is a part in milliseconds: `anna-1--flac--1500-3250`. A name
    with other characters, or one that is too long, ends with 16 hexadecimal digits of
    the XXH3 hash of the exact name. That holds for a hyphen too: the folder `a-b` and
    the folders `a/b` would otherwise share their keys.
    """
    part = "" if start == 0 and end is None else f"--{time_in_key(start)}-{time_in_key(end)}"
    key = plain_key(source)
    if key is not None and in_milliseconds(start) and in_milliseconds(end):
        key += part
        if len(key) <= LONGEST_KEY and not LOOKS_HASHED.fullmatch(key):
            return key
    # No file's name has a NUL, so a part of one file never hashes like another file.
    exact = f"{source}\0{start!r}\0{end!r}" if part else source
    digest = xxhash.xxh3_64_hexdigest(exact.encode("utf-8"))
    return shorten(os.path.splitext(source)[0] + part, digest)


def plain_key(source: str) -> str | None:
    """Return the key from which the source can be told again, if it has one."""
    match = PLAIN_PATTERN.fullmatch(source)
    if match is None:
        return None
    key = match["path"].replace("/", "-")
    return key if match["suffix"] == "wav" else f"{key}--{match['suffix']}"


def time_in_key(seconds: float | None) -> str:
    """Return a time in whole milliseconds; None is the end of the recording."""
    return "end" if seconds is None else f"{round(seconds * 1000)}"


def in_milliseconds(seconds: float | None) -> bool:
    """Say whether whole milliseconds tell a time from every other."""
    return seconds is None or round(seconds * 1000) / 1000 == seconds


def shorten(name: str, digest: str) -> str:
    """Return what a key can hold of a name, and the hash that tells it from others like it."""
    readable = NOT_IN_KEYS.sub("_", name.replace("/", "-")).lstrip("-")
    readable = readable[: LONGEST_KEY - HASH_DIGITS - 1]
    return f"{readable}-{digest}" if readable else digest
