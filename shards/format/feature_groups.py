"""Feature settings among other settings: a group for every kind, named after it."""

from collections.abc import Mapping
from dataclasses import asdict, field, make_dataclass
from typing import Any, TypeVar

from aalbert.common.text import flat
from aalbert.shards.format.feature_settings import SETTINGS_BY_KIND, default_settings

Config = TypeVar("Config")


def with_feature_groups(config: type[Config]) -> type[Config]:
    """Return a frozen dataclass with a further field for the settings of every feature kind."""
    groups = [
        (kind, settings, field(default_factory=settings))
        for kind, settings in SETTINGS_BY_KIND.items()
    ]
    made: type[Config] = make_dataclass(
        config.__name__, groups, bases=(config,), frozen=True, kw_only=True
    )
    return made


def unusual_settings(kind: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return, by dotted name, those settings of a feature that are not its defaults."""
    usual = dict(flat(asdict(default_settings(kind))))
    return {name: value for name, value in flat(settings) if value != usual.get(name)}


def prepare_assignments(kind: str, settings: Mapping[str, Any]) -> list[str]:
    """Return those settings of a feature that are not its defaults, as `prepare --set` takes them.

    The wave is the same for all features, and has a group of its own.
    """
    return [
        f"{name}={value}" if name.startswith("wave.") else f"{kind}.{name}={value}"
        for name, value in unusual_settings(kind, settings).items()
    ]


def prepare_options(settings: Mapping[str, Any]) -> str:
    """Return the options with which 'aalbert prepare' stores a feature with these settings."""
    kind = settings["kind"]
    changes = prepare_assignments(kind, settings)
    return " ".join([f"--feature {kind}", *(f"--set {change}" for change in changes)])
