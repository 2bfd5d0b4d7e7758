"""The recipes that ship with the package."""

from importlib import resources
from typing import Any

from aalbert.configuration import parse_yaml
from aalbert.errors import ConfigError

PRESETS = resources.files("aalbert.train") / "presets"
PRETRAIN = "pretrain"


def read_preset(name: str, folder: str = PRETRAIN) -> tuple[str, dict[str, Any]]:
    """Return what a preset is called in messages, and its settings.

    `folder` is `pretrain`, or the name of a downstream task.
    """
    path = PRESETS / folder / f"{name}.yaml"
    if not path.is_file():
        raise ConfigError(f"unknown preset '{name}': use one of {', '.join(preset_names(folder))}")
    title = f"preset '{name}'"
    return title, parse_yaml(path.read_text("utf-8"), title)


def preset_names(folder: str = PRETRAIN) -> list[str]:
    """Return the names of the presets in a folder."""
    return sorted(path.name.removesuffix(".yaml") for path in (PRESETS / folder).iterdir())
