"""States to continue from: finished or absent, with a hash beside each, the latest few kept."""

import io
import re
import sys
from pathlib import Path
from typing import Any

import torch
import xxhash
from pytorch_lightning.plugins.io import CheckpointIO
from torch import Tensor

from aalbert.common.files import atomic_write, file_digest, write_text
from aalbert.errors import IntegrityError

NAME_PATTERN = re.compile(r"step-(\d+)\.ckpt")
HASH_SUFFIX = ".xxh3"


class AtomicCheckpoints(CheckpointIO):
    """Writes Lightning's checkpoints finished or absent, and reads tensors and plain values only.

    Lightning's own writer goes through the folder for temporary files, which may be
    small or another disk.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Write a checkpoint to `path`, its hash beside it first: where it is, its hash is.

        It is made in memory, so that a full disk is met by plain writing, which says so.
        """
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        write_text(hash_path(Path(path)), xxhash.xxh3_128_hexdigest(buffer.getbuffer()) + "\n")
        with atomic_write(Path(path)) as stream:
            stream.write(buffer.getbuffer())

    def load_checkpoint(
        self, path: Any, map_location: Any | None = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint from `path`."""
        checkpoint: dict[str, Any] = torch.load(path, map_location=map_location, weights_only=True)
        return checkpoint

    def remove_checkpoint(self, path: Any) -> None:
        """Remove the checkpoint at `path`."""
        Path(path).unlink()


def state_path(folder: Path, step: int) -> Path:
    """Return where the state after a step lies."""
    return folder / f"step-{step:08d}.ckpt"


def list_states(folder: Path) -> list[Path]:
    """Return the saved states, oldest first."""
    return sorted(path for path in folder.glob("*.ckpt") if NAME_PATTERN.fullmatch(path.name))


def latest_state(folder: Path) -> Path | None:
    """Return the latest state that is as it was written, saying which ones were not.

    Returns None when none was saved yet; raises `IntegrityError` when all are damaged.
    """
    states = list_states(folder)
    for path in reversed(states):
        if is_intact(path):
            return path
        print(f"{path} is damaged (checksum); going back to the one before", file=sys.stderr)
    if states:
        raise IntegrityError(f"{folder} holds no intact checkpoint: start again with another --out")
    return None


def best_weights(folder: Path, step: int) -> dict[str, Tensor]:
    """Return the model's tensors of a saved state; `IntegrityError` when it is damaged."""
    path = state_path(folder, step)
    if not is_intact(path):
        raise IntegrityError(
            f"{path}, the best state, is missing or damaged (checksum): set export: last in the "
            "run's config.yaml, and resume"
        )
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    prefix = "model."
    return {name.removeprefix(prefix): tensor for name, tensor in state.items()}


def is_intact(path: Path) -> bool:
    """Say whether a state has the hash that was written beside it."""
    recorded = hash_path(path)
    return recorded.is_file() and recorded.read_text("utf-8").strip() == file_digest(path)


def hash_path(path: Path) -> Path:
    """Return where the hash of a state lies."""
    return path.with_name(path.name + HASH_SUFFIX)


def step_of(path: Path) -> int:
    """Return the number of optimiser steps in a saved state."""
    match = NAME_PATTERN.fullmatch(path.name)
    assert match is not None, path
    return int(match[1])
