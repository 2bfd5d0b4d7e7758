"""The detection of a foreign checkpoint's layout, by the keys in the file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from aalbert.errors import InputError, IntegrityError
from aalbert.models.foreign.foreign_model import ForeignModel
from aalbert.models.foreign.lightning import read_lightning
from aalbert.models.foreign.s3prl import read_s3prl
from aalbert.models.foreign.tensors import StoredTensor
from aalbert.models.foreign.torch_file import TorchFile, open_torch_file

S3PRL_KEYS = ("Transformer", "Mockingjay")
LIGHTNING_KEYS = ("state_dict", "hyper_parameters")
# What `DataParallel` puts before every name.
PARALLEL_PREFIX = "module."
MOST_KEYS_SHOWN = 12


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
        raise type(error)(f"{path}: {error}") from error


def read_document(file: TorchFile) -> ForeignModel:
    """Read an open checkpoint of any layout."""
    document = file.document
    if not isinstance(document, dict):
        raise InputError(f"it holds a {type(document).__name__}, not a checkpoint")

    def read_tensors(group: Mapping[str, Any], key: str) -> dict[str, Tensor]:
        stored = stored_tensors(group, key)
        return {name: read_tensor(file, name, tensor) for name, tensor in stored.items()}

    if any(key in document for key in S3PRL_KEYS):
        return read_s3prl(document, read_tensors)
    if all(key in document for key in LIGHTNING_KEYS):
        return read_lightning(document, read_tensors)
    keys = [str(key) for key in document][:MOST_KEYS_SHOWN]
    raise InputError(
        f"its layout is not known: it has the keys {', '.join(keys) or 'none'}, expected "
        f"{' or '.join(S3PRL_KEYS)} (s3prl) or {' and '.join(LIGHTNING_KEYS)} (AALBERT repository)"
    )


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
