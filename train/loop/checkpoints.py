"""Saved states of training: complete or absent, each with a checksum, the latest few kept."""

import io
from pathlib import Path
from typing import Any

import torch
import xxhash
from pytorch_lightning.plugins.io import CheckpointIO
from torch import Tensor

from aalbert.common.files import atomic_write, write_text
from aalbert.common.notes import say
from aalbert.errors import IntegrityError
from aalbert.models.training_states import (
    hash_path,
    is_intact,
    list_hashes,
    list_states,
    read_state,
    state_path,
    step_of,
)


class AtomicCheckpoints(CheckpointIO):
    """Writes Lightning's checkpoints completely or not at all, and reads only plain values.

    Lightning's own writer uses the folder for temporary files, which may be small or on another
    disk.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Write a checkpoint to `path`, after its checksum: no checkpoint is without one.

        It is serialised in memory, so that a full disk raises an ordinary error of writing.
        """
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        write_text(hash_path(Path(path)), xxhash.xxh3_128_hexdigest(buffer.getbuffer()) + "\n")
        with atomic_write(Path(path)) as stream:
            stream.write(buffer.getbuffer())

    def load_checkpoint(
        self, path: Any, map_location: Any | None = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint of tensors and plain values from `path`."""
        checkpoint: dict[str, Any] = torch.load(path, map_location=map_location, weights_only=True)
        return checkpoint

    def remove_checkpoint(self, path: Any) -> None:
        """Remove the checkpoint at `path`."""
        Path(path).unlink()


def latest_state(folder: Path) -> Path | None:
    """Return the latest intact state, and print the path of every damaged one after it.

    Returns None when none was saved yet; raises `IntegrityError` when all are damaged.
    """
    states = list_states(folder)
    for path in reversed(states):
        if is_intact(path):
            return path
        say(f"{path} is damaged (checksum); going back to the one before")
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
    return read_state(path)[0]


def remove_old_states(folder: Path, step: int, *, keep: int, best_step: int | None) -> None:
    """Remove the states up to a step, except for the latest `keep` of them and the best one.

    States after the step were found damaged when the run was resumed, and are not counted.
    Checksums that a killed process left without their states go too.
    """
    states = [path for path in list_states(folder) if step_of(path) <= step]
    for path in states[:-keep]:
        if step_of(path) != best_step:
            path.unlink()
    for path in list_hashes(folder):
        if not path.with_suffix("").exists():
            path.unlink()
