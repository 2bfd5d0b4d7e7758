"""Names that become part of a dataset: splits are its folders, fields columns of its index."""

import re
from collections.abc import Iterable, Mapping

from aalbert.errors import InputError
from aalbert.shards.index import row_schema
from aalbert.shards.settings import SETTINGS_BY_KIND

SPLIT_PATTERN = re.compile(r"\w[\w-]{0,79}", re.ASCII)
# Folders that a dataset has beside those of its splits.
TAKEN_SPLITS = frozenset({"index", "statistics", "trials"})
TAKEN_FIELDS = frozenset(row_schema(dict.fromkeys(SETTINGS_BY_KIND, 1), ()).names)


def taken_fields(names: Iterable[str]) -> list[str]:
    """Return those of the names that the index needs for itself, such as `shard`."""
    return [name for name in names if name in TAKEN_FIELDS]


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
