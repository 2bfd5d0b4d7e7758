"""Names that become part of a dataset: keys, splits (folders), fields (columns)."""

import os
import re
from collections.abc import Iterable, Mapping

import xxhash

from aalbert.errors import InputError
from aalbert.shards.format.feature_settings import SETTINGS_BY_KIND
from aalbert.shards.format.index import row_schema

SPLIT_PATTERN = re.compile(r"\w[\w-]{0,79}", re.ASCII)
# Folders that a dataset has beside those of its splits.
TAKEN_SPLITS = frozenset({"index", "statistics", "trials"})
# A tar member's name has up to 100 bytes, of which a feature's name and suffix take some.
LONGEST_KEY = 80
KEY_PATTERN = re.compile(rf"[\w-]{{1,{LONGEST_KEY}}}", re.ASCII)
# What a key can say without loss: folders and a name of plain letters, and a suffix.
PLAIN_PATTERN = re.compile(r"(?P<path>\w+(?:/\w+)*)\.(?P<suffix>[a-zA-Z0-9]+)", re.ASCII)
HASH_DIGITS = 16
LOOKS_HASHED = re.compile(rf"(.*-)?[0-9a-f]{{{HASH_DIGITS}}}")
NOT_IN_KEYS = re.compile(r"[^\w-]", re.ASCII)


def taken_fields(names: Iterable[str]) -> list[str]:
    """Return those of the names that the index needs for itself, such as `shard`."""
    taken = row_schema(dict.fromkeys(SETTINGS_BY_KIND, 1), ()).names
    return [name for name in names if name in taken]


def check_splits(places: Mapping[str, str]) -> None:
    """Refuse names of splits that are no safe names of folders (split -> where it was found).

    They are refused rather than changed, because `a b` and `a_b` would become one split.
    Raises `InputError`.
    """
    seen: dict[str, str] = {}
    for split, place in places.items():
        if not SPLIT_PATTERN.fullmatch(split) or split.lower() in TAKEN_SPLITS:
            raise InputError(
                f"{place} would be in the split '{split}': a split is the name of a folder of up "
                "to 80 letters (a-z, A-Z), digits, '_' and '-', does not begin with '-' and is "
                f"none of {', '.join(sorted(TAKEN_SPLITS))}; rename it"
            )
        other = seen.setdefault(split.lower(), split)
        if other != split:
            raise InputError(
                f"{place} would be in the split '{split}', {places[other]} in '{other}': not every "
                "disk can tell these folders apart; give both one name"
            )


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


def key_of_id(name: str) -> str:
    """Return the key of what a corpus calls by this name: the name itself, where it can be one."""
    return name if KEY_PATTERN.fullmatch(name) else key_of(name)


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
