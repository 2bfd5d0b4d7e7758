"""`aalbert.yaml` in the current folder: settings for all commands of a piece of work."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aalbert.common.notes import note
from aalbert.errors import ConfigError, require
from aalbert.train.downstream.tasks import TASKS

if TYPE_CHECKING:
    from aalbert.common.settings_text import Document

WORK_FILE = "aalbert.yaml"
PREPARE, PRETRAIN = "prepare", "pretrain"
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
    preset = settings.pop("preset", None)
    require(
        preset is None or (isinstance(preset, str) and section != PREPARE),
        f"{WORK_FILE}: {section}.preset = {preset!r} is no name of a recipe for {section}",
    )
    note(f"note: {section} has settings of {WORK_FILE}")
    return WorkSettings(preset, (f"{WORK_FILE}, {section}", settings))
