"""The device that models compute on."""

from dataclasses import dataclass

import torch

from aalbert.errors import ConfigError, require

# Apple's GPUs are never chosen, because nothing here has been tested on one.
KINDS = ("cpu", "cuda")


@dataclass
class Choice:
    """What was chosen for this process; None is the best one."""

    device: torch.device | None = None


CHOICE = Choice()


def best_device() -> torch.device:
    """Return the device that was chosen, else the current GPU of CUDA (or ROCm), else the CPU."""
    if CHOICE.device is not None:
        return CHOICE.device
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def choose_device(name: str | None) -> torch.device:
    """Return the device of that name, or the best one; `ConfigError` when it does not exist."""
    if name is None:
        return best_device()
    try:
        device = torch.device(name)
        require(device.type in KINDS, f"the device '{name}' is none of {', '.join(KINDS)}")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"the device '{name}' cannot be used: {reason}; try cpu") from error
    return device


def use_device(name: str | None) -> torch.device:
    """Have this process compute on a device, by default on the best one, and return it.

    Raises `ConfigError` when it does not exist.
    """
    CHOICE.device = None if name is None else choose_device(name)
    return best_device()
