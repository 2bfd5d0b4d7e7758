"""The recipes that ship with the package."""

from importlib import resources
from typing import Any

from aalbert.configuration import parse_yaml
from aalbert.errors import ConfigError

PRESETS = resources.files("aalbert.train") / "presets" / "pretrain"


def read_preset(name: str) -> tuple[str, dict[str, Any]]:
    """Return what a preset for pretraining is called in messages, and its settings."""
    path = PRESETS / f"{name}.yaml"
    if not path.is_file():
        raise ConfigError(f"unknown preset '{name}': use one of {', '.join(preset_names())}")
    title = f"preset '{name}'"
    return title, parse_yaml(path.read_text("utf-8"), title)


def preset_names() -> list[str]:
    """Return the names of the presets."""
    return sorted(path.name.removesuffix(".yaml") for path in PRESETS.iterdir())
