"""The states that a run in training saves: their names, their checksums, the model inside.

A state is complete or absent; a checksum lies beside it.
"""

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aalbert.common.files import file_digest
from aalbert.errors import InputError

# The folder of the states in that of a run.
STATES_FOLDER = "checkpoints"
NAME_PATTERN = re.compile(r"step-(\d{8,})\.ckpt")
HASH_SUFFIX = ".xxh3"
# What a state of pretraining holds of its model besides the tensors: configuration and card.
MODEL_ENTRY = "model"
# Before the names of the model's tensors; a module may hold more, such as a classifier that
# training needs.
MODEL_PREFIX = "model."


def state_path(folder: Path, step: int) -> Path:
    """Return the path of the state that is saved after a step."""
    return folder / f"step-{step:08d}.ckpt"


def hash_path(path: Path) -> Path:
    """Return the path of the checksum of a state."""
    return path.with_name(path.name + HASH_SUFFIX)


def step_of(path: Path) -> int:
    """Return the number of optimiser steps before a state was saved."""
    match = NAME_PATTERN.fullmatch(path.name)
    assert match is not None, path
    return int(match[1])


def list_states(folder: Path) -> list[Path]:
    """Return the saved states, oldest first."""
    return sorted(path for path in folder.glob("*.ckpt") if NAME_PATTERN.fullmatch(path.name))


def is_intact(path: Path) -> bool:
    """Return whether a state has the checksum that was written with it."""
    recorded = hash_path(path)
    return recorded.is_file() and recorded.read_text("utf-8").strip() == file_digest(path)


def find_state(place: Path | str) -> Path | None:
    """Return the file of a state of a pretraining run that a place names; None for other places.

    A place is `RUN@STEP` or the file. Raises `InputError` when the run has no state of this step.
    """
    path = Path(place)
    if path.is_file():
        return path if NAME_PATTERN.fullmatch(path.name) else None
    run, _, step = str(place).rpartition("@")
    if path.exists() or not step.isdecimal() or not (Path(run) / STATES_FOLDER).is_dir():
        return None
    state = state_path(Path(run) / STATES_FOLDER, int(step))
    if not state.is_file():
        steps = ", ".join(str(step_of(each)) for each in list_states(state.parent)) or "none"
        raise InputError(f"{run} has no state of step {int(step)}: it has {steps}")
    return state


def read_state(path: Path) -> dict[str, Any]:
    """Read a state, of which only tensors and plain values are loaded."""
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def model_tensors(state: dict[str, Any]) -> dict[str, Tensor]:
    """Return the model's tensors of a state."""
    return {
        name.removeprefix(MODEL_PREFIX): tensor.contiguous()
        for name, tensor in state["state_dict"].items()
        if name.startswith(MODEL_PREFIX)
    }
