"""The errors that a user can meet, each with its exit code on the command line.

The message is one line that names the thing, its value and the way out.
"""

import math
from collections.abc import Sequence
from typing import ClassVar


class AalbertError(Exception):
    """An error that the user can fix; the command line prints its message and exits.

    `details` are further lines, such as a list.
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
    """An input is missing, or its layout is not the expected one."""

    exit_code = 3


class IntegrityError(AalbertError):
    """Data or weights on disk do not match their index or checksum."""

    exit_code = 4


class TooManySkippedError(AalbertError):
    """More inputs were unusable than `--max-skipped` allows."""

    exit_code = 5


class OutputInUseError(AalbertError):
    """The output folder holds something else, or another process is using it."""

    exit_code = 6


class StorageError(AalbertError):
    """No space is left, writing is not permitted, or the system fails in another way."""

    exit_code = 7


class DivergedError(AalbertError):
    """A loss, gradient or validation metric is not finite."""


class WorkersDiedError(AalbertError):
    """Worker processes were killed repeatedly."""


class ReaderDiedError(AalbertError):
    """The reader process, which prefetches batches, was killed."""


class LostRankError(AalbertError):
    """Another process of the run has ended or does not respond."""


class InterruptedRunError(AalbertError):
    """A signal ended the run after its state was saved."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number


class AalbertWarning(UserWarning):
    """What a user should know of a result that was computed all the same; one line on stderr."""
