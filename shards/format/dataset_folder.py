"""The folder of a dataset: whether it is one, and what to do if it is not.

It imports nothing that takes long, so that a wrong folder is refused at once.
"""

import shlex
from pathlib import Path

from aalbert.errors import InputError

MANIFEST_NAME = "manifest.json"


def manifest_path(folder: Path) -> Path:
    """Return the path of a dataset's manifest.

    Raises `InputError` when the folder is not a complete dataset.
    """
    path = folder / MANIFEST_NAME
    if path.is_file():
        return path
    if not folder.exists():
        raise InputError(
            f"there is no folder {folder}: make it with 'aalbert prepare CORPUS DIR --out {folder}'"
        )
    inner = sorted(manifest.parent for manifest in folder.glob(f"*/{MANIFEST_NAME}"))
    if inner:
        raise InputError(f"{folder} is not a dataset but holds some: did you mean {inner[0]}?")
    raise InputError(
        f"{folder} has no {MANIFEST_NAME}: it is not a dataset made by 'aalbert prepare', or its "
        f"'prepare' was interrupted (run the same command again to finish it){parts_of(folder)}"
    )


def parts_of(folder: Path) -> str:
    """Return which parts of an unfinished dataset were begun and which not, and what ends it."""
    names = sorted(path.stem for path in folder.glob(".prepare/records/*-of-*.json"))
    counts = {int(name.partition("-of-")[2]) for name in names} - {1}
    if not counts:
        return ""
    count = max(counts)
    begun = [number for number in range(1, count + 1) if f"{number}-of-{count}" in names]
    others = [f"{number}/{count}" for number in range(1, count + 1) if number not in begun]
    parts = f"run --part {', '.join(others)} of it" if others else "end all of its parts"
    return f"; {parts}, and then 'aalbert prepare finalize {shlex.quote(str(folder))}'"
