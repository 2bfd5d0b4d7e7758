"""States to continue from: finished or absent, with a hash beside each, the latest few kept."""

import io
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import xxhash
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.plugins.io import CheckpointIO
from torch import Tensor

from aalbert.common.files import TEMPORARY_SUFFIX, atomic_write, file_digest, write_text
from aalbert.errors import IntegrityError
from aalbert.train.loop.non_finite_guard import NonFiniteGuard
from aalbert.train.loop.ranks import Ranks
from aalbert.train.loop.stop_signals import ended_step
from aalbert.train.loop.throughput import Clock

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


class SaveStates(Callback):
    """Saves the state of training after the steps that are due, and keeps the latest few.

    `best_step` says which further state is kept, if any. The first rank writes; all take part.
    """

    def __init__(
        self,
        folder: Path,
        due: Callable[[int], bool],
        keep: int,
        *,
        guard: NonFiniteGuard,
        ranks: Ranks,
        clock: Clock | None = None,
        best_step: Callable[[], int | None] = lambda: None,
    ) -> None:
        self.folder = folder
        self.due = due
        self.keep = keep
        self.guard = guard
        self.ranks = ranks
        self.clock = clock or Clock()
        self.best_step = best_step
        self.saved: int | None = None

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *rest: Any) -> None:
        """Save when it is time to."""
        if ended_step(trainer) and self.due(trainer.global_step):
            self.save(trainer)

    def save(self, trainer: Trainer) -> None:
        """Save the whole state of training, once a step, and drop the states that are too old."""
        if self.saved == trainer.global_step:
            return
        self.guard.check()
        with self.clock.stopped():
            if self.ranks.first:
                for left_over in self.folder.glob(f"*{TEMPORARY_SUFFIX}"):
                    left_over.unlink()
            trainer.save_checkpoint(state_path(self.folder, trainer.global_step))
            if self.ranks.first:
                self.drop_old(trainer.global_step)
        self.saved = trainer.global_step

    def drop_old(self, step: int) -> None:
        """Remove all states up to a step but the latest and the best.

        Later ones were found damaged when the run continued, and count for nothing.
        """
        states = [path for path in list_states(self.folder) if step_of(path) <= step]
        for old in states[: -self.keep]:
            if step_of(old) != self.best_step():
                old.unlink()
                hash_path(old).unlink(missing_ok=True)


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
