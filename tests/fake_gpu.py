"""Models and batches on a GPU that is only imagined: shapes and devices without numbers."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from aalbert.shards.loading.batch import Batch

LENGTHS = (60, 41, 1)


@contextmanager
def fake_gpu(*modules: nn.Module) -> Iterator[None]:
    """Imagine a GPU and put the parameters and buffers of modules on it.

    Within the block, an operation on tensors of different devices raises an error, and so does one
    on a tensor that is none of these parameters and buffers but was made before. Nothing can be
    computed: what reads a number from a tensor raises an error too. The backward pass cannot be
    imagined, for PyTorch starts a thread with the driver's context for it.
    """
    with FakeTensorMode():
        for part in {part for module in modules for part in module.modules()}:
            for name, value in part._parameters.items():
                if value is not None:
                    moved = nn.Parameter(on_gpu(value), requires_grad=value.requires_grad)
                    part._parameters[name] = moved
            for name, buffer in part._buffers.items():
                if buffer is not None:
                    part._buffers[name] = on_gpu(buffer)
        yield


def on_gpu(value: Tensor) -> Tensor:
    """Return an imagined tensor of the same shape and type on the GPU."""
    return torch.empty(value.shape, dtype=value.dtype, device="cuda")


def fake_batch(dims: int, targets: dict[str, int] | None = None, *, packed: bool = False) -> Batch:
    """Return a batch of three utterances on the imagined GPU."""
    shape = (sum(LENGTHS),) if packed else (len(LENGTHS), max(LENGTHS))

    def features(dims: int) -> Tensor:
        return torch.empty(*shape, dims, dtype=torch.float16, device="cuda")

    return Batch(
        features=features(dims),
        lengths=torch.empty(len(LENGTHS), dtype=torch.int64, device="cuda"),
        rows=torch.empty(len(LENGTHS), dtype=torch.int64, device="cuda"),
        real_frames=sum(LENGTHS),
        squared_frames=sum(length**2 for length in LENGTHS),
        longest=max(LENGTHS),
        targets={name: features(count) for name, count in (targets or {}).items()},
    )
