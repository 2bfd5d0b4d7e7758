"""What s3prl needs of torchaudio to be imported, and the last release no longer has."""

import sys
from types import ModuleType
from typing import Any

import torchaudio

SOX_MODULE = "torchaudio.sox_effects"


def add_stubs() -> None:
    """Add stubs for what torchaudio no longer has, so that s3prl can be imported.

    Choosing a backend does nothing, the effects of SoX raise `NotImplementedError`.
    """
    if not hasattr(torchaudio, "set_audio_backend"):
        # There are no backends to choose between any more.
        torchaudio.set_audio_backend = lambda _: None
    if not hasattr(torchaudio, "sox_effects"):
        stub = ModuleType(SOX_MODULE)
        stub.apply_effects_tensor = stub.apply_effects_file = refuse  # type: ignore[attr-defined]
        torchaudio.sox_effects = sys.modules[SOX_MODULE] = stub


def refuse(*_: Any, **__: Any) -> None:
    """Raise `NotImplementedError`, in place of a function that torchaudio no longer has."""
    raise NotImplementedError(
        f"{SOX_MODULE} is not in torchaudio {torchaudio.__version__}: this part of s3prl needs "
        "an older torchaudio"
    )
