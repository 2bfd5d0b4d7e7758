"""Which of PyTorch's kernels compute the attention of padded batches on a GPU."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch.backends import cuda

ALLOWED: tuple[Callable[[], bool], ...] = (
    *(cuda.flash_sdp_enabled, cuda.mem_efficient_sdp_enabled),
    *(cuda.math_sdp_enabled, cuda.cudnn_sdp_enabled),
)


@contextmanager
def without_cudnn(device: torch.device) -> Iterator[None]:
    """Leave out cuDNN's kernel in the block, unless the caller has chosen among the kernels.

    PyTorch prefers it on the newest GPUs. It prepares for every new shape, which takes as long as
    many steps, and padded batches are of new shapes again and again. Code that is compiled as a
    whole with the block keeps PyTorch's choice.
    """
    compiled = torch.compiler.is_compiling()
    if compiled or device.type != "cuda" or not all(allowed() for allowed in ALLOWED):
        yield
        return
    cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        cuda.enable_cudnn_sdp(True)
