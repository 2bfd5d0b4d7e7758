"""Options that several commands share, and their conversion to settings."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from aalbert.commands.completion import complete_presets, complete_settings
from aalbert.commands.help import RUNNING, SETTINGS, Command, Row
from aalbert.common.text_files import decode_text, text_lines
from aalbert.errors import ConfigError, InputError
from aalbert.shards.format.dataset_folder import manifest_path

Value = TypeVar("Value")

SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Any setting, such as optimiser.learning_rate=5e-4; give it again for more.",
        rich_help_panel=SETTINGS,
        autocompletion=complete_settings,
    ),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE", help="YAML file with settings.", rich_help_panel=SETTINGS
    ),
]
PresetOption = Annotated[
    str | None,
    typer.Option(
        "--preset",
        metavar="NAME",
        help="A recipe, one of those below.",
        rich_help_panel=SETTINGS,
        autocompletion=complete_presets,
    ),
]
SeedOption = Annotated[
    int | None,
    typer.Option("--seed", help="Seed of every random draw.", rich_help_panel=SETTINGS),
]
MaxSkippedOption = Annotated[
    float,
    typer.Option(
        metavar="SHARE",
        min=0,
        max=1,
        help="Share of inputs that may be unusable; above 0, at least one may.",
        rich_help_panel=RUNNING,
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers", min=1, help="Processes; all cores by default.", rich_help_panel=RUNNING
    ),
]
AudioArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="AUDIO...",
        help="Audio files, folders, tables as 'prepare manifest' reads, prepared datasets, or - "
        "for a list of them on stdin, one a line.",
    ),
]
RunArgument = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="Folder or URL of a downstream run or of its model, or USER/MODEL on the hub.",
    ),
]
SplitsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--split",
        metavar="NAME",
        help="Only this split of prepared datasets; give it again for more.",
    ),
]
ResumeOption = Annotated[
    bool,
    typer.Option("--resume", help="Continue the run in --out.", rich_help_panel=RUNNING),
]
DryRunOption = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Try a little of it, estimate the time and the space of all of it, write nothing.",
        rich_help_panel=RUNNING,
    ),
]


class PresetCommand(Command):
    """A command that has presets, which its help lists: pretraining, or a task of its name."""

    def further_panels(self) -> dict[str, list[Row]]:
        """Return the presets, each with what it is."""
        from aalbert.train.preset import about_preset, preset_names

        folder = self.name or ""
        rows = [(name, about_preset(name, folder)) for name in preset_names(folder)]
        return {"Presets": rows} if rows else {}


def flags(**values: object) -> list[str]:
    """Return the given flags as assignments, which override all other settings."""
    return [f"{name}={json.dumps(value)}" for name, value in values.items() if value is not None]


def require_option(value: Value | None, option: str) -> Value:
    """Return the value of an option; `ConfigError` when it is missing, which `--resume` allows."""
    if value is None:
        raise ConfigError(f"missing option {option} (or --resume, to continue the run in --out)")
    return value


def require_datasets(*places: str) -> None:
    """Raise `InputError` for a folder that has no dataset, before heavy packages are imported.

    URLs are looked at when they are opened.
    """
    for place in places:
        if "://" not in place:
            manifest_path(Path(place))


def refuse_with_resume(**values: object) -> None:
    """Raise `ConfigError` when settings are given to a resumed run, which has its own."""
    given = [f"--{name}" for name, value in values.items() if value]
    if given:
        raise ConfigError(
            f"--resume continues a run with its own settings: leave out {', '.join(given)}"
        )


def listed_places(places: Sequence[str]) -> list[str]:
    """Return places with those that stdin lists, one a line, in place of a `-`."""
    listed: list[str] = []
    for place in places:
        if place == "-" and sys.stdin is None:
            raise InputError("stdin is closed: give the inputs themselves in place of -")
        if place == "-":
            listed += filter(None, text_lines(decode_text(sys.stdin.buffer.read(), "stdin")))
        else:
            listed.append(place)
    return listed
