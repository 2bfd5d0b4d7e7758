"""The recipes that ship with the package."""

from dataclasses import dataclass
from importlib import resources

from aalbert.common.configuration import Document, merge, parse_yaml
from aalbert.errors import ConfigError, require

PRESETS = resources.files("aalbert.train") / "presets"
PRETRAIN = "pretrain"
# The preset of each downstream task that is taken when none is named.
TASK_PRESETS = {
    "voxceleb1": "best",
    "voxceleb1-verification": "cosine",
    "librispeech-speaker": "utterance",
    "librispeech-phone": "linear",
    "classify": "default",
}


def require_task(task: str) -> None:
    """Raise `ConfigError` for a downstream task that there is not."""
    require(task in TASK_PRESETS, f"unknown task '{task}': use one of {', '.join(TASK_PRESETS)}")


@dataclass(frozen=True)
class Preset:
    """A recipe: what it is, in a line, and its settings."""

    name: str
    about: str
    settings: Document

    @property
    def layer(self) -> tuple[str, Document]:
        """What messages call it and its settings, for `load_config`."""
        return f"preset '{self.name}'", self.settings


def read_preset(name: str, folder: str = PRETRAIN) -> tuple[str, Document]:
    """Return what a preset is called in messages, and its settings.

    `folder` is `pretrain`, or the name of a downstream task.
    """
    return find_preset(name, folder).layer


def find_preset(name: str, folder: str = PRETRAIN) -> Preset:
    """Return a preset, laid over the one that it extends; `ConfigError` when there is none."""
    path = PRESETS / folder / f"{name}.yaml"
    if not path.is_file():
        raise ConfigError(f"unknown preset '{name}': use one of {', '.join(preset_names(folder))}")
    own = parse_yaml(path.read_text("utf-8"), f"preset '{name}'")
    about, base = own.pop("about", ""), own.pop("extends", None)
    settings: Document = {}
    if base is not None:
        merge(settings, find_preset(base, folder).settings)
    merge(settings, own)
    return Preset(name, about, settings)


def preset_names(folder: str = PRETRAIN) -> list[str]:
    """Return the names of the presets in a folder."""
    return sorted(path.name.removesuffix(".yaml") for path in (PRESETS / folder).iterdir())
