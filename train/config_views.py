"""Settings to look at: of presets, files and runs, resolved, and compared."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from aalbert.configuration import Document, as_plain, load_config, read_yaml_file
from aalbert.errors import ConfigError
from aalbert.shards.mismatch import flat
from aalbert.train.configs import PretrainConfig
from aalbert.train.presets import preset_names, read_preset
from aalbert.train.recipes import read_recipe
from aalbert.train.run_folder import RunFolder


def settings_of(place: str) -> Document:
    """Return all settings of a preset, of a YAML file for pretraining, or of any run.

    Raises `ConfigError` when the place is none of them.
    """
    path = Path(place)
    if path.is_dir():
        return read_yaml_file(RunFolder(path).config)
    if place in preset_names():
        return plain(read_recipe(place))
    if path.is_file():
        return plain(load_config(PretrainConfig, file=path, environment={}))
    raise ConfigError(
        f"'{place}' is no preset ({', '.join(preset_names())}), file or folder of a run"
    )


def resolved_settings(
    preset: str | None, file: Path | None, assignments: Sequence[str]
) -> PretrainConfig:
    """Return what `aalbert pretrain` would use, the environment included."""
    layer = read_preset(preset) if preset else None
    return load_config(PretrainConfig, preset=layer, file=file, assignments=assignments)


def plain(config: PretrainConfig) -> Document:
    """Return a configuration as a document that JSON and YAML have."""
    document: Document = as_plain(asdict(config))
    return document


def differences(left: Document, right: Document) -> dict[str, tuple[Any, Any]]:
    """Return the settings that differ, by dotted name; None where one side has no such setting."""
    ours, theirs = dict(flat(left)), dict(flat(right))
    return {
        name: (ours.get(name), theirs.get(name))
        for name in {**ours, **theirs}
        if ours.get(name) != theirs.get(name)
    }


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of words as aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (zip(row, widths, strict=True) for row in rows)
    return "\n".join(
        "  ".join(f"{word:{width}}" for word, width in line).rstrip() for line in lines
    )
