"""Options that several commands share, and their conversion to settings."""

import json
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from aalbert.errors import ConfigError

Value = TypeVar("Value")

SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="Any setting, such as optimiser.learning_rate=5e-4."
    ),
]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="YAML file with settings.")]
PresetOption = Annotated[
    str | None, typer.Option("--preset", help="A recipe; 'aalbert config presets' lists them.")
]
SeedOption = Annotated[int | None, typer.Option("--seed", help="Seed of every random draw.")]
MaxSkippedOption = Annotated[
    float,
    typer.Option(
        min=0, max=1, help="Share of inputs that may be unusable; above 0, at least one may."
    ),
]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")]


def flags(**values: object) -> list[str]:
    """Return the given flags as assignments, which override all other settings."""
    return [f"{name}={json.dumps(value)}" for name, value in values.items() if value is not None]


def require_option(value: Value | None, option: str) -> Value:
    """Return the value of an option; `ConfigError` when it is missing, which `--resume` allows."""
    if value is None:
        raise ConfigError(f"missing option {option} (or --resume, to continue the run in --out)")
    return value


def refuse_with_resume(**values: object) -> None:
    """Raise `ConfigError` when settings are given to a resumed run, which has its own."""
    given = [f"--{name}" for name, value in values.items() if value]
    if given:
        raise ConfigError(
            f"--resume continues a run with its own settings: leave out {', '.join(given)}"
        )
