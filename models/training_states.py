"""The states that a run in training saves: their names, their checksums, the model inside.

A state is complete or absent; a checksum lies beside it.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aalbert.common.files import file_digest
from aalbert.errors import InputError, IntegrityError
from aalbert.models.torch_files.tensors import StoredTensor
from aalbert.models.torch_files.torch_file import TorchFile, open_torch_file

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


def list_hashes(folder: Path) -> list[Path]:
    """Return the checksums of states, oldest first, also those whose states are gone."""
    paths = folder.glob(f"*{HASH_SUFFIX}")
    return sorted(path for path in paths if NAME_PATTERN.fullmatch(path.stem))


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


def read_state(path: Path) -> tuple[dict[str, Tensor], Mapping[str, Any] | None]:
    """Read the model's tensors of a state, and its configuration and card if there are any.

    No code in the file is run. Raises `IntegrityError` when it is damaged.
    """
    try:
        with open_torch_file(path) as file:
            return model_tensors(file), model_entry(file.document)
    except (InputError, IntegrityError) as error:
        raise IntegrityError(f"{path} is no state of a run: {error}") from error


def model_tensors(file: TorchFile) -> dict[str, Tensor]:
    """Return copies of the model's tensors of a state."""
    state = file.document.get("state_dict") if isinstance(file.document, dict) else None
    if not isinstance(state, dict):
        raise IntegrityError("it has no 'state_dict'")
    tensors: dict[str, Tensor] = {}
    size = 0
    for name, stored in state.items():
        if not isinstance(name, str) or not name.startswith(MODEL_PREFIX):
            continue
        if not isinstance(stored, StoredTensor):
            raise IntegrityError(f"its '{name:.100}' is no tensor")
        # Several names may have the same bytes, and each becomes a tensor.
        size += stored.size
        if size > file.size:
            raise IntegrityError(f"its tensors take more bytes than the file's {file.size:,}")
        tensors[name.removeprefix(MODEL_PREFIX)] = file.tensor(stored).clone(
            memory_format=torch.contiguous_format
        )
    return tensors


def model_entry(document: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the configuration and the card of a state's model; None if it has no such entry."""
    entry = document.get(MODEL_ENTRY)
    if entry is None:
        return None
    if not isinstance(entry, dict) or not isinstance(entry.get("card"), str):
        raise IntegrityError(f"its '{MODEL_ENTRY}' has no card")
    try:
        json.dumps(entry.get("document"))
    except (TypeError, ValueError) as error:
        raise IntegrityError(f"its '{MODEL_ENTRY}' is no JSON document: {error}") from error
    if not isinstance(entry.get("document"), dict):
        raise IntegrityError(f"its '{MODEL_ENTRY}' has no document")
    return entry
