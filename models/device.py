"""The device that computes where none is named."""

import torch


def best_device() -> torch.device:
    """Return the current GPU of CUDA (or ROCm), or the processor where there is none.

    Apple's GPUs are never chosen: nothing here was ever run on one.
    """
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
