"""Recipes for pretraining as configurations, and the commands that make the data they read."""

import shlex
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from aalbert.configuration import load_config
from aalbert.shards.mismatch import flat
from aalbert.shards.settings import default_settings
from aalbert.train.configs import PretrainConfig
from aalbert.train.presets import read_preset


def read_recipe(name: str) -> PretrainConfig:
    """Return the settings of a preset, with the defaults of those that it leaves open."""
    return load_config(PretrainConfig, preset=read_preset(name), environment={})


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
