"""The errors a user can meet, each with the exit code the command line ends with.

An error's text is one line that names the thing, its value and the way out.
"""

import math
from collections.abc import Sequence
from typing import ClassVar


class AalbertError(Exception):
    """Something the user can put right; the command line prints its text and exits.

    `details` are further lines, for what is a list.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, details: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.details = tuple(details)


class ConfigError(AalbertError):
    """An option, a configuration file or a combination of settings is wrong."""

    exit_code = 2


def require(condition: bool, message: str) -> None:
    """Raise `ConfigError` unless a condition on the settings holds."""
    if not condition:
        raise ConfigError(message)


def require_positive(prefix: str, config: object, *names: str) -> None:
    """Raise `ConfigError` for the first of these settings that is not a number above 0."""
    for name in names:
        value = getattr(config, name)
        require(0 < value < math.inf, f"{prefix}{name} {value} must be above 0")


class InputError(AalbertError):
    """An input is missing, or its layout is not what was expected."""

    exit_code = 3


class IntegrityError(AalbertError):
    """Data or weights on disk are not what their index or checksum says."""

    exit_code = 4


class TooManySkippedError(AalbertError):
    """More inputs were unusable than `--max-skipped` allows."""

    exit_code = 5


class OutputInUseError(AalbertError):
    """The output folder holds something else, or another process works in it."""

    exit_code = 6


class StorageError(AalbertError):
    """No space is left, there is no permission to write, or the system fails otherwise."""

    exit_code = 7


class DivergedError(AalbertError):
    """A loss or gradient of training is not finite."""


class WorkersDiedError(AalbertError):
    """Worker processes keep being killed."""


class ReaderDiedError(AalbertError):
    """The process that reads batches ahead was killed."""


class LostRankError(AalbertError):
    """Another process of the run has ended or does not answer."""


class InterruptedRunError(AalbertError):
    """A signal ended the run after its state was saved."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number
