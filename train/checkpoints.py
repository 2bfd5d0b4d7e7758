"""States to continue from: finished or absent, with a hash beside each, the latest few kept."""

import os
import re
import sys
from pathlib import Path

from pytorch_lightning import Trainer

from aalbert.errors import InputError
from aalbert.files import TEMPORARY_SUFFIX, file_digest, sync_folder, write_text

NAME_PATTERN = re.compile(r"step-(\d+)\.ckpt")
HASH_SUFFIX = ".xxh3"


def save_state(trainer: Trainer, folder: Path, keep: int) -> Path:
    """Save the whole state of training and drop all but the `keep` latest ones."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step-{trainer.global_step:08d}.ckpt"
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    trainer.save_checkpoint(temporary)
    with temporary.open("rb") as stream:
        os.fsync(stream.fileno())
    write_text(path.with_name(path.name + HASH_SUFFIX), file_digest(temporary) + "\n")
    temporary.replace(path)
    sync_folder(folder)
    for old in list_states(folder)[:-keep]:
        old.unlink()
        old.with_name(old.name + HASH_SUFFIX).unlink()
    return path


def list_states(folder: Path) -> list[Path]:
    """Return the saved states, oldest first."""
    return sorted(path for path in folder.glob("*.ckpt") if NAME_PATTERN.fullmatch(path.name))


def latest_state(folder: Path) -> Path:
    """Return the latest state that is as it was written, saying which ones were not.

    Raises `InputError` when there is none.
    """
    for path in reversed(list_states(folder)):
        if is_intact(path):
            return path
        print(f"{path} is damaged (checksum); going back to the one before", file=sys.stderr)
    raise InputError(f"{folder} holds no intact checkpoint: start again with another --out")


def is_intact(path: Path) -> bool:
    """Say whether a state has the hash that was written beside it."""
    recorded = path.with_name(path.name + HASH_SUFFIX)
    return recorded.is_file() and recorded.read_text("utf-8").strip() == file_digest(path)


def step_of(path: Path) -> int:
    """Return the number of optimiser steps in a saved state."""
    match = NAME_PATTERN.fullmatch(path.name)
    assert match is not None, path
    return int(match[1])
