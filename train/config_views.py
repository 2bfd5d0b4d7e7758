"""Settings to look at: of presets, files and runs, resolved, and compared."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from aalbert.common.configuration import Document, as_plain, read_yaml_file
from aalbert.common.text import flat
from aalbert.errors import ConfigError
from aalbert.train.configs import PretrainConfig
from aalbert.train.downstream_config import DownstreamConfig
from aalbert.train.presets import PRETRAIN, preset_names, require_task
from aalbert.train.recipes import read_pretrain_recipe, read_task_recipe
from aalbert.train.run_folder import RunFolder


def settings_of(place: str, task: str | None) -> Document:
    """Return all settings of any run, or of a preset or a YAML file.

    The last two are for pretraining, or for a downstream task. Raises `ConfigError` when
    the place is none of them.
    """
    if task is not None:
        require_task(task)
    path = Path(place)
    if path.is_dir():
        return read_yaml_file(RunFolder(path).config)
    names = preset_names(task or PRETRAIN)
    if place in names:
        return resolved_settings(task, place, environment={})
    if path.is_file():
        return resolved_settings(task, file=path, environment={})
    raise ConfigError(f"'{place}' is no preset ({', '.join(names)}), file or folder of a run")


def resolved_settings(
    task: str | None,
    preset: str | None = None,
    *,
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    assignments: Sequence[str] = (),
) -> Document:
    """Return what `aalbert pretrain` would use, or `aalbert downstream` for a task.

    `environment` is that of the process unless given.
    """
    read = read_pretrain_recipe if task is None else partial(read_task_recipe, task)
    return plain(read(preset, file=file, environment=environment, assignments=assignments))


def plain(config: PretrainConfig | DownstreamConfig) -> Document:
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
