"""The settings in a foreign checkpoint, where any value may be missing or of any type."""

import math
from collections.abc import Mapping
from typing import Any

from aalbert.errors import InputError

# Longer texts are no settings of a training.
LONGEST_FACT = 200


class Settings:
    """A group of settings and its name, such as `Config.transformer`.

    Every method raises `InputError` with the setting's name when it is missing without a default
    or has another type. Numbers may be text, such as `"1e-12"`.
    """

    def __init__(self, name: str, values: Any) -> None:
        if not isinstance(values, Mapping):
            raise InputError(f"{name} is a {type(values).__name__}, not a group of settings")
        self.name = name
        self.values = values

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def group(self, name: str) -> "Settings":
        """Return an inner group."""
        return Settings(f"{self.name}.{name}", self.value(name, None))

    def value(self, name: str, default: Any) -> Any:
        """Return a setting of any type; with a default of None it must be present."""
        if name not in self.values and default is None:
            known = ", ".join(map(str, self.values)) or "nothing"
            raise InputError(f"{self.name} has no '{name}', only {known}")
        return self.values.get(name, default)

    def real(self, name: str, default: float | None = None) -> float:
        """Return a number."""
        value = self.value(name, default)
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise self.refusal(name, "a number") from error
        if isinstance(value, bool) or not math.isfinite(number):
            raise self.refusal(name, "a number")
        return number

    def whole(self, name: str, default: int | None = None, least: int = 0) -> int:
        """Return a whole number of at least `least`."""
        number = self.real(name, default)
        if not number.is_integer() or number < least:
            raise self.refusal(name, f"a whole number of at least {least}")
        return int(number)

    def text(self, name: str, default: str | None = None) -> str:
        """Return a text."""
        value = self.value(name, default)
        if not isinstance(value, str):
            raise self.refusal(name, "a text")
        return value

    def flag(self, name: str, default: bool | None = None) -> bool:
        """Return true or false; text such as `"False"` is an error.

        s3prl treats that text as true, its author probably meant false.
        """
        value = self.value(name, default)
        if not isinstance(value, bool):
            raise self.refusal(name, "true or false")
        return value

    def refusal(self, name: str, expected: str) -> InputError:
        """Return the error for a value of another type."""
        value = self.values.get(name)
        shown = repr(value) if isinstance(value, (str, int, float)) else type(value).__name__
        return InputError(f"{self.name}.{name} is {shown[:40]}, expected {expected}")


def facts(values: Mapping[str, Any]) -> dict[str, int | float | str]:
    """Return those of the values that can be kept as facts about a training: numbers and texts."""
    return {name: value for name, value in values.items() if is_fact(value)}


def is_fact(value: Any) -> bool:
    """Return whether a value is a number, or a text that may be one line of a model card."""
    if isinstance(value, str):
        return len(value) <= LONGEST_FACT
    return isinstance(value, (int, float)) and math.isfinite(value)


def is_step(value: Any) -> bool:
    """Return whether a value can be a number of steps."""
    return type(value) is int and value >= 0
