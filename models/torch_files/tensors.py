"""The tensors in a checkpoint's pickle: their validated locations in the file, not yet read."""

import math
from dataclasses import dataclass
from typing import Any

import torch

from aalbert.errors import IntegrityError
from aalbert.models.torch_files.pickles import Persistent, Placeholder, Replacement, make_dictionary

DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
# PyTorch's own limit.
MOST_DIMENSIONS = 64
# Other objects in checkpoints, which are not needed here.
NOT_NEEDED = (
    "argparse.Namespace",
    *(f"pathlib.{kind}" for kind in ("Path", "PosixPath", "WindowsPath")),
    *(f"pathlib.Pure{kind}" for kind in ("Path", "PosixPath", "WindowsPath")),
    *(f"pathlib._local.{kind}" for kind in ("Path", "PosixPath", "WindowsPath")),
    *(
        f"{module}.{kind}"
        for module in ("builtins", "__builtin__")
        for kind in ("set", "frozenset")
    ),
    *(
        f"numpy.{core}.multiarray.{name}"
        for core in ("core", "_core")
        for name in ("scalar", "_reconstruct")
    ),
    "numpy.dtype",
    "_codecs.encode",
    "functools.partial",
    "datetime.datetime",
    "datetime.timedelta",
    "torch.device",
    "torch.Size",
)


@dataclass(frozen=True)
class Storage:
    """A one-dimensional array of numbers in the file."""

    key: str
    dtype: torch.dtype
    elements: int

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return self.elements * self.dtype.itemsize


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in the file: a view of a storage, with strides and offset in elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes of a copy."""
        return math.prod(self.shape) * self.storage.dtype.itemsize


class Storages:
    """The storages that a checkpoint's pickle refers to, collected while the pickle is read."""

    def __init__(self) -> None:
        self.found: dict[str, Storage] = {}

    def replacements(self) -> dict[str, Replacement]:
        """Return the replacements of the functions that the pickle may call."""
        return {
            **dict.fromkeys(NOT_NEEDED, lambda *_: Placeholder()),
            "collections.OrderedDict": make_dictionary,
            "collections.defaultdict": lambda *_: {},
            "pytorch_lightning.utilities.parsing.AttributeDict": make_dictionary,
            "torch._utils._rebuild_tensor": self.tensor,
            "torch._utils._rebuild_tensor_v2": self.tensor,
            "torch._utils._rebuild_parameter": lambda data, *_: data,
        }

    def tensor(
        self,
        persistent: Persistent,
        offset: int,
        shape: tuple[int, ...],
        stride: tuple[int, ...],
        *_: Any,
    ) -> StoredTensor:
        """Return the tensor of a call that rebuilds one.

        Raises `IntegrityError` when it reaches beyond its storage.
        """
        storage = self.storage(persistent)
        if not isinstance(shape, tuple) or not isinstance(stride, tuple):
            raise TypeError("a tensor whose shape and strides are no tuples")
        if len(shape) > MOST_DIMENSIONS or len(shape) != len(stride):
            raise ValueError(f"a tensor of {len(shape)} dimensions and {len(stride)} strides")
        numbers = (offset, *shape, *stride)
        if any(type(n) is not int or not 0 <= n < 2**63 for n in numbers):
            raise ValueError("a tensor whose offset, shape and strides are not whole numbers")
        elements = math.prod(shape)
        last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
        if elements > storage.elements or (elements and last >= storage.elements):
            raise IntegrityError(
                f"a tensor of shape {shape} reads past its storage of {storage.elements} numbers"
            )
        return StoredTensor(storage, offset, shape, stride)

    def storage(self, persistent: Persistent) -> Storage:
        """Return the storage of a reference; all references to a key must agree."""
        if not isinstance(persistent.key, tuple) or len(persistent.key) not in (5, 6):
            raise TypeError("a storage of an unknown kind")
        _, kind, key, _, elements, *view = persistent.key
        name = kind.text.rpartition(".")[2]
        if (
            name not in DTYPES
            or not all(each is None for each in view)
            or not isinstance(key, (str, int))
            or type(elements) is not int
            or elements < 0
        ):
            raise ValueError("a storage of an unknown kind")
        storage = Storage(str(key), DTYPES[name], elements)
        if self.found.setdefault(storage.key, storage) != storage:
            raise ValueError(f"two storages with the key {key}")
        return storage
