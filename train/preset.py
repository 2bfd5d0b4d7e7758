"""Presets: named recipes, as YAML files in `presets/`."""

from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

from aalbert.errors import ConfigError

if TYPE_CHECKING:
    from aalbert.common.settings_text import Document

# Its text is on the same line.
ABOUT = "about:"
# The folder of the presets for pretraining; others have the name of a downstream task.
PRETRAIN = "pretrain"
PRESETS = resources.files("aalbert.train") / "presets"


@dataclass(frozen=True)
class Preset:
    """A recipe: what it is, in a line, and its settings."""

    name: str
    about: str
    settings: "Document"


def read_preset(name: str, folder: str = PRETRAIN) -> tuple[str, "Document"]:
    """Return what a preset is called in messages, and its settings.

    `folder` is `pretrain`, or the name of a downstream task.
    """
    preset = find_preset(name, folder)
    return f"preset '{preset.name}'", preset.settings


def find_preset(name: str, folder: str = PRETRAIN) -> Preset:
    """Return a preset, laid over the one that it extends; `ConfigError` when there is none."""
    # YAML takes as long to import as all else that `--help` needs.
    from aalbert.common.settings_text import merge, parse_document

    path = PRESETS / folder / f"{name}.yaml"
    if not path.is_file():
        names = ", ".join(preset_names(folder))
        way_out = f"use one of {names}" if names else f"{folder} has none"
        raise ConfigError(f"unknown preset '{name}': {way_out}")
    own = parse_document(path.read_text("utf-8"), f"preset '{name}'")
    about, base = own.pop("about", ""), own.pop("extends", None)
    settings: Document = {}
    if base is not None:
        merge(settings, find_preset(base, folder).settings)
    merge(settings, own)
    return Preset(name, about, settings)


def preset_names(folder: str = PRETRAIN) -> list[str]:
    """Return the names of the presets in a folder; a task need not have one."""
    presets = PRESETS / folder
    if not presets.is_dir():
        return []
    return sorted(path.name.removesuffix(".yaml") for path in presets.iterdir())


def about_preset(name: str, folder: str = PRETRAIN) -> str:
    """Return what a preset is, from its first lines alone: a shell and `--help` wait for it."""
    with (PRESETS / folder / f"{name}.yaml").open(encoding="utf-8") as stream:
        lines = (line.removeprefix(ABOUT) for line in stream if line.startswith(ABOUT))
        return next(lines, "").strip()
