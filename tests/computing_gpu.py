"""A GPU that is only imagined, and computes: numbers are those of the CPU, devices are checked.

Where `fake_gpu` knows shapes alone, here everything runs to its end. Operations that change the
shape of a tensor in place, as in recurrent networks, cannot be imagined, nor copies from pinned
memory, streams, kernels for GPUs alone, and compilation.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map_only

GPU = torch.device("cuda", 0)
CPU = torch.device("cpu")
aten = torch.ops.aten
# They copy from one device to another.
COPIES = {aten._to_copy.default, aten.copy_.default}
# A tensor on a GPU takes indexes and masks of the CPU too.
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default}


class OnGpu(Tensor):
    """A tensor that says it is on the GPU; its `numbers` are, on the CPU.

    PyTorch itself takes it for one of the CPU, so that it can compute gradients without a driver.
    """

    numbers: Tensor

    @staticmethod
    def __new__(cls, numbers: Tensor) -> "OnGpu":
        made: OnGpu = Tensor._make_wrapper_subclass(
            cls,
            numbers.shape,
            strides=numbers.stride(),
            storage_offset=numbers.storage_offset(),
            dtype=numbers.dtype,
            device=CPU,
        )
        made.numbers = numbers
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """The imagined GPU."""
        return GPU

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        """That of a tensor on a GPU."""
        return True

    def cpu(self, *_: Any, **__: Any) -> Tensor:
        """Return a copy on the CPU."""
        copy: Tensor = ToCpu.apply(self)  # type: ignore[no-untyped-call]
        return copy

    def to(self, *arguments: Any, **keywords: Any) -> Tensor:
        """Return the tensor on a device or of a type, itself if it is both."""
        options = torch._C._nn._parse_to(*arguments, **keywords)
        device, dtype = options[0] or GPU, options[1] or self.dtype
        if device.type == CPU.type:
            return self.cpu().to(dtype)
        return self if dtype == self.dtype else self.type(dtype)

    def numpy(self, **_: Any) -> Any:
        """Raise the error of a tensor on a GPU."""
        raise TypeError(f"can't convert {GPU} device type tensor to numpy")

    def tolist(self) -> Any:
        """Return the numbers, which PyTorch refuses of its subclasses."""
        return self.numbers.tolist()

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Compute where no mode is active, as when a tensor is freed or shown."""
        return compute(func, args, kwargs or {})


class ToCpu(torch.autograd.Function):
    """The copy from the GPU to the CPU, and that of the gradient back."""

    @staticmethod
    def forward(_: Any, tensor: OnGpu) -> Tensor:
        return tensor.numbers.detach().clone()

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        return OnGpu(gradient)


class ComputingGpu(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Computes what is asked of the imagined GPU, and what is asked of the CPU as ever."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute one operation."""
        return compute(func, args, kwargs or {})


def compute(function: Any, arguments: Any, keywords: dict[str, Any]) -> Any:
    """Compute an operation on the CPU; `RuntimeError` if its tensors are on two devices.

    What it returns is on the device that was asked for, or on that of its tensors.
    """
    tensors = [leaf for leaf in tree_leaves((arguments, keywords)) if isinstance(leaf, Tensor)]
    on_gpu = any(isinstance(tensor, OnGpu) for tensor in tensors)
    if on_gpu and function not in COPIES:
        check_devices(function, tensors)
    asked = keywords.get("device")
    if asked is not None:
        keywords = {**keywords, "device": CPU}
        # A gradient goes back to "the CPU" when its tensor was converted to another type.
        converted = on_gpu and function is aten._to_copy.default
        on_gpu = converted or torch.device(asked).type == "cuda"
    if function is aten.copy_.default:
        on_gpu = isinstance(arguments[0], OnGpu)
    inner_arguments, inner_keywords = tree_map_only(
        OnGpu, lambda tensor: tensor.numbers, (arguments, keywords)
    )
    with _disable_current_modes():
        found = function(*inner_arguments, **inner_keywords)
    own = {id(tensor.numbers): tensor for tensor in tensors if isinstance(tensor, OnGpu)}

    def placed(value: Tensor) -> Tensor:
        # An operation in place returns the tensor that it was given.
        if id(value) in own:
            return own[id(value)]
        return OnGpu(value) if on_gpu else value

    return tree_map_only(Tensor, placed, found)


def check_devices(function: Any, tensors: list[Tensor]) -> None:
    """Raise an error where a tensor of the CPU, other than a single number, meets the GPU's."""
    if function in INDEXING and isinstance(tensors[0], OnGpu):
        return
    strangers = [each for each in tensors if not isinstance(each, OnGpu) and each.dim() > 0]
    if strangers:
        raise RuntimeError(f"{function} has tensors on cuda:0 and on cpu, {strangers[0].shape}")


@contextmanager
def computing_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Imagine a GPU that computes, and have it chosen, within the block."""
    event = SimpleNamespace(record=lambda: None, query=lambda: True, synchronize=lambda: None)
    with monkeypatch.context() as patch:
        patch.setattr("aalbert.models.device.CHOICE.device", GPU)
        patch.setattr(torch.cuda, "Event", lambda: event)
        # A module that is moved takes other parameters: one of the CPU cannot become one of ours.
        patch.setattr(torch.__future__, "_overwrite_module_params_on_conversion", True)
        # It keeps PyTorch from looking for the driver.
        with FakeTensorMode(), ComputingGpu():  # type: ignore[no-untyped-call]
            yield
