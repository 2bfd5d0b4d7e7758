"""Weights on disk as Hugging Face users expect them: a folder with safetensors, JSON and a card.

`config.json` is written last and holds the hash of the weights, so a folder that has
it is complete, and a changed byte of the weights is noticed.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from aalbert.errors import InputError, IntegrityError
from aalbert.files import atomic_write, file_digest, write_json, write_text

WEIGHTS_NAME = "model.safetensors"
CONFIG_NAME = "config.json"
FORMAT_NAME = "aalbert-model"
FORMAT_VERSION = 1
# A run folder keeps its finished model here.
EXPORT_FOLDER = "export"


def save_checkpoint(
    folder: Path, module: nn.Module, document: Mapping[str, Any], card: str
) -> None:
    """Write a module's state, the configuration it is rebuilt from, and its model card."""
    tensors = {name: tensor.contiguous() for name, tensor in module.state_dict().items()}
    with atomic_write(folder / WEIGHTS_NAME) as stream:
        stream.write(save(tensors))
    write_text(folder / "README.md", card)
    header = {"format": FORMAT_NAME, "format_version": FORMAT_VERSION}
    digest = {"weights_xxh3": file_digest(folder / WEIGHTS_NAME)}
    write_json(folder / CONFIG_NAME, {**header, **document, **digest})


def load_checkpoint(folder: Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors and the configuration of a checkpoint of this kind.

    `folder` may be the checkpoint or a run folder. Raises `InputError` when there is
    none of this kind, `IntegrityError` when the files are damaged.
    """
    folder = find_checkpoint(folder)
    document = read_config(folder)
    if document["kind"] != kind:
        raise InputError(f"{folder} holds a '{document['kind']}' model, expected a '{kind}' one")
    weights = folder / WEIGHTS_NAME
    if not weights.is_file() or file_digest(weights) != document["weights_xxh3"]:
        raise IntegrityError(
            f"{weights} is missing or is not what was written (checksum); "
            "copy the checkpoint again or export it again"
        )
    try:
        return load(weights.read_bytes()), document
    except SafetensorError as error:
        raise IntegrityError(f"{weights} is not a safetensors file: {error}") from error


def find_checkpoint(folder: Path) -> Path:
    """Return the checkpoint folder itself, or the one inside a run folder."""
    for candidate in (folder, folder / EXPORT_FOLDER):
        if (candidate / CONFIG_NAME).is_file():
            return candidate
    if not folder.exists():
        raise InputError(f"there is no folder {folder}: expected a run or a saved model")
    if folder.is_file():
        raise InputError(
            f"{folder} is a file: 'aalbert convert' makes a model of a checkpoint of another system"
        )
    if (folder / "checkpoints").is_dir():
        raise InputError(f"the run in {folder} is not finished: continue it with --resume")
    raise InputError(
        f"{folder} has no {CONFIG_NAME}, nor has {folder / EXPORT_FOLDER}: "
        "expected a run or a saved model"
    )


def read_config(folder: Path) -> dict[str, Any]:
    """Read and check `config.json`."""
    path = folder / CONFIG_NAME
    try:
        document: dict[str, Any] = json.loads(path.read_text("utf-8"))
        found = (document["format"], document["format_version"])
        document["kind"], document["weights_xxh3"], document["upstream"]
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"{path} is not the configuration of an aalbert model") from error
    if found != (FORMAT_NAME, FORMAT_VERSION):
        raise IntegrityError(
            f"{path} has format {found[0]} version {found[1]}, this aalbert reads "
            f"{FORMAT_NAME} version {FORMAT_VERSION}"
        )
    return document


def restore(module: nn.Module, tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Load tensors into a module; `IntegrityError` when names or shapes do not fit."""
    try:
        module.load_state_dict(dict(tensors))
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise IntegrityError(f"{folder}: weights and configuration differ: {reason}") from error
