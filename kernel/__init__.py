"""The arithmetic of `prepare` in C: spectra, float16, 16-bit samples. `native` is its module.

It is imported on first use: a checkout that is not built can compute features for a model, but
writes none.
"""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aalbert.errors import ConfigError

if TYPE_CHECKING:
    from aalbert.kernel import native as native

NATIVE = "aalbert.kernel.native"
# How a checkout gets the module.
BUILD = f"pip install {Path(__file__).resolve().parent.parent}"


def is_built() -> bool:
    """Return whether the module in C is there."""
    return find_spec(NATIVE) is not None


def __getattr__(name: str) -> Any:
    """Import `native` (PEP 562); `ConfigError` where it is not built."""
    if name != "native":
        raise AttributeError(f"module 'aalbert.kernel' has no attribute '{name}'")
    if not is_built():
        raise ConfigError(
            f"aalbert is not built, which reading files and preparing data need: {BUILD}"
        )
    return import_module(NATIVE)
