"""Recipes: presets as configurations, and the commands that make the data of pretraining."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from aalbert.common.configuration import load_config, merge
from aalbert.common.settings_text import Document, parse_document
from aalbert.errors import ConfigError
from aalbert.shards.format.feature_groups import prepare_assignments
from aalbert.train.downstream.config import DownstreamConfig
from aalbert.train.downstream.tasks import find_task
from aalbert.train.pretraining.config import PretrainConfig
from aalbert.train.pretraining.start import Start
from aalbert.train.run_record import PRETRAIN

PRESETS = resources.files("aalbert.train") / "presets"


def read_recipe(name: str) -> PretrainConfig:
    """Return the settings of a preset, with the defaults of those that it leaves open."""
    return read_pretrain_recipe(name, environment={})


def read_pretrain_recipe(
    preset: str | None = None,
    *,
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    assignments: Sequence[str] = (),
    start: Start | None = None,
) -> PretrainConfig:
    """Return the settings of a pretraining run, on top of the defaults or of a preset.

    Without a preset, the model of a `start` stands in its place. `environment` is that of the
    process unless given.
    """
    model = None if start is None else (start.origin.model, start.recipe())
    return load_config(
        PretrainConfig,
        preset=read_preset(preset) if preset else model,
        file=file,
        environment=environment,
        assignments=assignments,
    )


def read_task_recipe(
    task: str,
    preset: str | None = None,
    *,
    implied: Document | None = None,
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    assignments: Sequence[str] = (),
) -> DownstreamConfig:
    """Return the settings of a downstream task, on top of its usual preset, if any, or another.

    `implied` are settings that the name of an upstream stands for, over those of the preset.
    `environment` is that of the process unless given. Raises `ConfigError` for a task that
    there is not.
    """
    usual = find_task(task).preset
    name = preset or usual
    source, settings = read_preset(name, folder=task) if name else ("--upstream", {})
    merge(settings, implied or {})
    return load_config(
        DownstreamConfig,
        preset=(source, settings),
        file=file,
        environment=environment,
        assignments=[*assignments, f"task={task}"],
    )


def prepare_command(config: PretrainConfig, out: str) -> str:
    """Return the `aalbert prepare` that makes from LibriSpeech what these settings read."""
    words = ["aalbert", "prepare", "librispeech", "/corpora/LibriSpeech", "--out", out]
    for split in config.data.splits:
        words += [] if "*" in split else ["--subset", split]
    for kind, settings in (config.data.features or {config.data.feature: {}}).items():
        words += ["--feature", kind]
        for assignment in prepare_assignments(kind, settings):
            words += [] if assignment in words else ["--set", assignment]
    return shlex.join(words)


@dataclass(frozen=True)
class Preset:
    """A recipe: what it is, in a line, and its settings."""

    name: str
    about: str
    settings: Document


def read_preset(name: str, folder: str = PRETRAIN) -> tuple[str, Document]:
    """Return what a preset is called in messages, and its settings.

    `folder` is `pretrain`, or the name of a downstream task.
    """
    preset = find_preset(name, folder)
    return f"preset '{preset.name}'", preset.settings


def find_preset(name: str, folder: str = PRETRAIN) -> Preset:
    """Return a preset, laid over the one that it extends; `ConfigError` when there is none."""
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
