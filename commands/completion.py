"""What a shell completes: presets, settings and their values, keys of utterances.

A shell asks while a user types: nothing here may print, and what cannot be read completes nothing.
"""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, Literal, get_args, get_origin

import typer

from aalbert.errors import AalbertError

# A list of more is of no help.
MOST_KEYS = 200


def beginning(incomplete: str, *words: str) -> list[str]:
    """Return those of some words that begin so."""
    return [word for word in words if word.startswith(incomplete)]


def complete_presets(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Return the presets of a command that begin so, with what they are."""
    from aalbert.train.preset import about_preset, preset_names

    folder = section_of(ctx)
    names = beginning(incomplete, *preset_names(folder))
    return [(name, about_preset(name, folder)) for name in names]


def section_of(ctx: typer.Context) -> str:
    """Return the task that a command is about, its own name, or pretraining for `config`."""
    from aalbert.train.downstream.tasks import TASKS
    from aalbert.train.preset import PRETRAIN

    # Arguments in front of an option without its value are not parsed.
    tasks = [word for word in (ctx.params.get("task"), *ctx.args) if word in TASKS]
    in_config = ctx.parent is not None and ctx.parent.command.name == "config"
    return tasks[0] if tasks else PRETRAIN if in_config else ctx.command.name or ""


def complete_places(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the presets of pretraining, or of the task that is named, that begin so."""
    from aalbert.train.preset import PRETRAIN, preset_names

    return beginning(incomplete, *preset_names(ctx.params.get("task") or PRETRAIN))


def complete_tasks(incomplete: str) -> list[tuple[str, str]]:
    """Return the downstream tasks that begin so."""
    from aalbert.train.downstream.tasks import TASKS

    return [
        (task.name, task.summary) for task in TASKS.values() if task.name.startswith(incomplete)
    ]


def complete_features(incomplete: str) -> list[str]:
    """Return the kinds of features that begin so."""
    from aalbert.shards.format.feature_settings import SETTINGS_BY_KIND

    return beginning(incomplete, *SETTINGS_BY_KIND)


def complete_settings(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the settings of a command that begin so, or the values of one behind its `=`."""
    name, equals, value = incomplete.partition("=")
    settings = dict(setting_types(settings_of_command(ctx)))
    if not equals:
        return [f"{each}=" for each in settings if each.startswith(name)]
    choices = values_of(settings[name]) if name in settings else ()
    return [f"{name}={choice}" for choice in choices if choice.startswith(value)]


def settings_of_command(ctx: typer.Context) -> type:
    """Return the dataclass of the settings that a command has."""
    from aalbert.train.downstream.config import DownstreamConfig
    from aalbert.train.preset import PRETRAIN
    from aalbert.train.pretraining.config import PretrainConfig

    if ctx.parent is not None and ctx.parent.command.name == "prepare":
        from aalbert.pipeline.prepare.recipe import Recipe
        from aalbert.shards.format.feature_groups import with_feature_groups

        return with_feature_groups(Recipe)
    return PretrainConfig if section_of(ctx) == PRETRAIN else DownstreamConfig


def setting_types(kind: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted names of all settings of a dataclass, with their types."""
    for item in fields(kind):
        groups = [each for each in (item.type, *get_args(item.type)) if is_dataclass(each)]
        if groups:
            yield from setting_types(groups[0], f"{prefix}{item.name}.")  # type: ignore[arg-type]
        else:
            yield f"{prefix}{item.name}", item.type


def values_of(annotation: Any) -> Iterator[str]:
    """Yield the values that a setting of this type can have, if they are named."""
    if annotation is bool:
        yield from ("true", "false")
    if get_origin(annotation) is Literal:
        yield from map(str, get_args(annotation))
    else:
        for inner in get_args(annotation):
            yield from values_of(inner)


def complete_keys(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return keys of the dataset that a command names, that begin so."""
    from aalbert.common.store import is_url
    from aalbert.shards.reading.dataset import Dataset

    place = ctx.params.get("directory")
    if not place or is_url(place):
        return []
    try:
        dataset = Dataset(place)
        keys = dataset.keys(range(len(dataset)))
    except (AalbertError, OSError):
        return []
    return beginning(incomplete, *keys)[:MOST_KEYS]
