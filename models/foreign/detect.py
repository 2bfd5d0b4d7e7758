"""The detection of a foreign checkpoint's layout, by the keys in the file."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aalbert.errors import InputError, IntegrityError
from aalbert.models.foreign.foreign_model import ForeignModel
from aalbert.models.foreign.lightning import read_lightning
from aalbert.models.foreign.s3prl import read_s3prl
from aalbert.models.torch_files.tensors import StoredTensor
from aalbert.models.torch_files.torch_file import TorchFile, open_torch_file

S3PRL_KEYS = ("Transformer", "Mockingjay")
LIGHTNING_KEYS = ("state_dict", "hyper_parameters")
# What `DataParallel` puts before every name.
PARALLEL_PREFIX = "module."
MOST_KEYS_SHOWN = 12
# Longer errors quote names and values of the file that may be as long as the file.
LONGEST_ERROR = 1_000
# Weights are read in float32: numbers of 16 bits take twice the bytes that they have in the file.
MOST_BYTES_PER_STORED = 4


def read_foreign(path: Path) -> ForeignModel:
    """Read a checkpoint of s3prl or of the AALBERT repository without running code in it.

    Raises `InputError` when the file is missing or has no known layout, `IntegrityError` when it
    is damaged, inconsistent, or would run code.
    """
    if not path.is_file():
        raise InputError(
            f"there is no file {path}: expected a checkpoint of s3prl or of the AALBERT repository"
        )
    try:
        with open_torch_file(path) as file:
            return read_document(file)
    except (InputError, IntegrityError) as error:
        message = str(error)
        shown = message[:LONGEST_ERROR] + ("..." if len(message) > LONGEST_ERROR else "")
        raise type(error)(f"{path}: {shown}") from error


def read_document(file: TorchFile) -> ForeignModel:
    """Read an open checkpoint of any layout."""
    document = file.document
    if not isinstance(document, dict):
        raise InputError(f"it holds a {type(document).__name__}, not a checkpoint")
    read_tensors = WeightReader(file)
    if any(key in document for key in S3PRL_KEYS):
        return read_s3prl(document, read_tensors)
    if all(key in document for key in LIGHTNING_KEYS):
        return read_lightning(document, read_tensors)
    keys = [str(key) for key in document][:MOST_KEYS_SHOWN]
    raise InputError(
        f"its layout is not known: it has the keys {', '.join(keys) or 'none'}, expected "
        f"{' or '.join(S3PRL_KEYS)} (s3prl) or {' and '.join(LIGHTNING_KEYS)} (AALBERT repository)"
    )


class WeightReader:
    """Reads the weights under a key of a checkpoint, each tensor once however many names it has.

    Raises `IntegrityError` when they overlap so that they take much more memory than the file.
    """

    def __init__(self, file: TorchFile) -> None:
        self.file = file
        self.tensors: dict[StoredTensor, Tensor] = {}
        self.bytes = 0

    def __call__(self, group: Mapping[str, Any], key: str) -> dict[str, Tensor]:
        """Return the named weights."""
        return {name: self.read(name, each) for name, each in stored_tensors(group, key).items()}

    def read(self, name: str, stored: StoredTensor) -> Tensor:
        """Return the weights of a name."""
        if stored not in self.tensors:
            self.bytes += math.prod(stored.shape) * torch.float32.itemsize
            if self.bytes > MOST_BYTES_PER_STORED * self.file.size:
                raise IntegrityError(
                    f"its tensors overlap: up to '{name}' they take {self.bytes:,} bytes, the "
                    f"file has {self.file.size:,}"
                )
            self.tensors[stored] = read_tensor(self.file, name, stored)
        return self.tensors[stored]


def stored_tensors(document: Mapping[str, Any], key: str) -> dict[str, StoredTensor]:
    """Return the tensors under a key, not yet read; raise `InputError` when it has none."""
    group = document.get(key)
    if not isinstance(group, dict) or not all(
        isinstance(name, str) and isinstance(tensor, StoredTensor) for name, tensor in group.items()
    ):
        raise InputError(f"its '{key}' is not a group of named tensors")
    if all(name.startswith(PARALLEL_PREFIX) for name in group):
        return {name.removeprefix(PARALLEL_PREFIX): tensor for name, tensor in group.items()}
    return group


def read_tensor(file: TorchFile, name: str, stored: StoredTensor) -> Tensor:
    """Read weights in float32; raise `IntegrityError` unless they are finite numbers."""
    tensor = file.tensor(stored)
    if not tensor.is_floating_point() or tensor.numel() == 0 or tensor.dim() not in (1, 2):
        raise IntegrityError(
            f"its tensor '{name}' has the shape {tuple(tensor.shape)} of {tensor.dtype}, no weights"
        )
    tensor = tensor.float()
    # The sum is not finite if one of the numbers is not, and it needs no copy.
    if not tensor.sum().isfinite():
        raise IntegrityError(f"its tensor '{name}' holds NaN or infinity: the training diverged")
    return tensor
