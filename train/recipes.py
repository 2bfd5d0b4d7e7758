"""Recipes as configurations, and the commands that make the data of those for pretraining."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from aalbert.common.configuration import load_config
from aalbert.common.text import flat
from aalbert.shards.format.feature_settings import default_settings
from aalbert.train.downstream.config import DownstreamConfig
from aalbert.train.presets import TASK_PRESETS, read_preset, require_task
from aalbert.train.pretraining.config import PretrainConfig


def read_recipe(name: str) -> PretrainConfig:
    """Return the settings of a preset, with the defaults of those that it leaves open."""
    return read_pretrain_recipe(name, environment={})


def read_pretrain_recipe(
    preset: str | None = None,
    *,
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    assignments: Sequence[str] = (),
) -> PretrainConfig:
    """Return the settings of a pretraining run, on top of the defaults or of a preset.

    `environment` is that of the process unless given.
    """
    return load_config(
        PretrainConfig,
        preset=read_preset(preset) if preset else None,
        file=file,
        environment=environment,
        assignments=assignments,
    )


def read_task_recipe(
    task: str,
    preset: str | None = None,
    *,
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    assignments: Sequence[str] = (),
) -> DownstreamConfig:
    """Return the settings of a downstream task, on top of its usual preset or another.

    `environment` is that of the process unless given. Raises `ConfigError` for a task that
    there is not.
    """
    require_task(task)
    return load_config(
        DownstreamConfig,
        preset=read_preset(preset or TASK_PRESETS[task], folder=task),
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
        for assignment in unusual_settings(kind, settings):
            words += [] if assignment in words else ["--set", assignment]
    return shlex.join(words)


def unusual_settings(kind: str, settings: Mapping[str, Any]) -> list[str]:
    """Return, as `prepare` takes them, the settings of a feature that are not its defaults."""
    usual = dict(flat(asdict(default_settings(kind))))
    return [
        # The wave is the same for all features, and has a group of its own.
        f"{name}={value}" if name.startswith("wave.") else f"{kind}.{name}={value}"
        for name, value in flat(settings)
        if value != usual.get(name)
    ]
