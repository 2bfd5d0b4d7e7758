"""Recipes: presets as configurations, and the commands that make the data of pretraining."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aalbert.common.configuration import load_config
from aalbert.common.settings_text import Document, merge
from aalbert.shards.format.feature_groups import prepare_assignments
from aalbert.train.downstream.config import DownstreamConfig
from aalbert.train.downstream.tasks import find_task
from aalbert.train.preset import read_preset
from aalbert.train.pretraining.config import PretrainConfig

if TYPE_CHECKING:
    from aalbert.train.pretraining.start import Start


def read_recipe(name: str) -> PretrainConfig:
    """Return the settings of a preset, with the defaults of those that it leaves open."""
    return read_pretrain_recipe(name, environment={})


def read_pretrain_recipe(
    preset: str | None = None,
    *,
    work: tuple[str, Document] | None = None,
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    assignments: Sequence[str] = (),
    start: "Start | None" = None,
) -> PretrainConfig:
    """Return the settings of a pretraining run, on top of the defaults or of a preset.

    Without a preset, the model of a `start` stands in its place. `work` are settings of a piece
    of work, with their place. `environment` is that of the process unless given.
    """
    model = None if start is None else (start.origin.model, start.recipe())
    return load_config(
        PretrainConfig,
        preset=read_preset(preset) if preset else model,
        work=work,
        file=file,
        environment=environment,
        assignments=assignments,
    )


def read_task_recipe(
    task: str,
    preset: str | None = None,
    *,
    implied: Document | None = None,
    work: tuple[str, Document] | None = None,
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    assignments: Sequence[str] = (),
) -> DownstreamConfig:
    """Return the settings of a downstream task, on top of its usual preset, if any, or another.

    `implied` are settings that the name of an upstream stands for, over those of the preset;
    `work` are those of a piece of work, with their place.
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
        work=work,
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
