"""`aalbert.yaml` in the current folder: settings for all commands of a piece of work."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aalbert.common.notes import note
from aalbert.errors import ConfigError, require
from aalbert.train.downstream.tasks import TASKS
from aalbert.train.preset import PRETRAIN

if TYPE_CHECKING:
    from aalbert.common.settings_text import Document

WORK_FILE = "aalbert.yaml"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
PREPARE = "prepare"
SECTIONS = (PREPARE, PRETRAIN, *TASKS)


@dataclass(frozen=True)
class WorkSettings:
    """What the file says for a command: its `preset`, and settings with the name of their place."""

    preset: str | None = None
    settings: "tuple[str, Document] | None" = None


def read_work_file(section: str) -> WorkSettings:
    """Return what `aalbert.yaml` says for `prepare`, `pretrain` or a task, and say that it does.

    Without such a file that is nothing. Raises `ConfigError` for a section that there is not.
    """
    from aalbert.common.configuration import read_yaml_file

    if not Path(WORK_FILE).is_file():
        return WorkSettings()
    document: dict[str, Any] = read_yaml_file(Path(WORK_FILE))
    unknown = [name for name in document if name not in SECTIONS]
    require(
        not unknown,
        f"{WORK_FILE}: there is no section '{', '.join(map(str, unknown))}': it may have "
        f"{', '.join(SECTIONS)}",
    )
    settings = document.get(section)
    if settings is None:
        return WorkSettings()
    if not isinstance(settings, dict):
        raise ConfigError(f"{WORK_FILE}: {section} is a group of settings, such as preset: tiny")
    require(
        "task" not in settings,
        f"{WORK_FILE}: the section {section} has no setting 'task': it is for {section}",
    )
    preset = settings.pop("preset", None)
    require(
        preset is None or (isinstance(preset, str) and section != PREPARE),
        f"{WORK_FILE}: {section}.preset = {preset!r} is no name of a recipe for {section}",
    )
    note(f"note: {section} has settings of {WORK_FILE}")
    return WorkSettings(preset, (f"{WORK_FILE}, {section}", settings))


def complete_sections(incomplete: str) -> list[str]:
    """Return the sections that begin so."""
    return [section for section in SECTIONS if section.startswith(incomplete)]


def schema_of_work_file() -> dict[str, Any]:
    """Return the JSON schema of `aalbert.yaml`."""
    from aalbert.train.preset import preset_names

    sections = {}
    for section in SECTIONS:
        schema = schema_of_section(section)
        schema["properties"].pop("task", None)
        if names := preset_names(section):
            schema["properties"]["preset"] = {"enum": names, "description": "A recipe."}
        sections[section] = schema
    return {
        "$schema": DIALECT,
        "title": WORK_FILE,
        "type": "object",
        "additionalProperties": False,
        "properties": sections,
    }


def schema_of_section(section: str) -> dict[str, Any]:
    """Return the JSON schema of the settings of a command."""
    from aalbert.common.configuration import json_schema
    from aalbert.train.downstream.config import DownstreamConfig
    from aalbert.train.pretraining.config import PretrainConfig

    if section == PREPARE:
        from aalbert.pipeline.prepare.recipe import Recipe
        from aalbert.shards.format.feature_groups import with_feature_groups

        return json_schema(with_feature_groups(Recipe))
    return json_schema(PretrainConfig if section == PRETRAIN else DownstreamConfig)
