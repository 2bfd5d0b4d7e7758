"""Which of PyTorch's kernels compute the attention of padded batches on a GPU."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.backends import cuda


@contextmanager
def without_cudnn(device: torch.device) -> Iterator[None]:
    """Leave out cuDNN's kernel in the block, unless the caller has chosen among the kernels.

    PyTorch prefers it on the newest GPUs. It prepares for every new shape, which takes as long as
    many steps, and nearly every padded batch is of a new one.
    """
    all_allowed = (
        cuda.flash_sdp_enabled()
        and cuda.mem_efficient_sdp_enabled()
        and cuda.math_sdp_enabled()
        and cuda.cudnn_sdp_enabled()
    )
    if device.type != "cuda" or not all_allowed:
        yield
        return
    cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        cuda.enable_cudnn_sdp(True)
