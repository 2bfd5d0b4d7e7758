"""The default device."""

import torch


def best_device() -> torch.device:
    """Return the current GPU of CUDA (or ROCm), or the CPU if there is none.

    Apple's GPUs are never chosen, because nothing here has been tested on one.
    """
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
