"""The header of a model card: YAML in the names and forms that the Hugging Face hub reads."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from aalbert.common.hub import LIBRARY, find_hub_place, is_hub_url
from aalbert.common.text import visible
from aalbert.errors import ConfigError
from aalbert.models.training_facts import TrainingFacts, read_facts

OTHER_CHARACTERS = re.compile(r"[^\w.-]+", re.ASCII)
# What is not recorded: the name of a corpus, and that of labels.
UNKNOWN, CLASS = "unknown", "class"
# Of datasets that are of one language, by their names on the hub.
LANGUAGES = {"openslr/librispeech_asr": "en"}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A figure in the header: `metric` is its kind, `name` what it is, in words."""

    metric: str
    name: str
    value: float


@dataclass(frozen=True, kw_only=True)
class Measurements:
    """Figures of a model on a split of a corpus; `task` is a kind of task, `task_name` its name."""

    task: str
    task_name: str
    corpus: str
    split: str
    entries: Sequence[Entry]


@dataclass(frozen=True, kw_only=True)
class Header:
    """What the hub is told of a model.

    `corpora` are the names on the hub of the corpora that it was trained on, in their order, empty
    where there is none that is certain.
    """

    name: str
    tags: Sequence[str]
    corpora: Sequence[str]
    pipeline_tag: str = ""
    base_model: str = ""
    measured: Measurements | None = None

    def to_yaml(self) -> str:
        """Return the header with the lines `---` around it; it leaves out what is not known."""
        languages = sorted({LANGUAGES.get(corpus, "") for corpus in self.corpora})
        known = {
            "library_name": LIBRARY,
            "language": [] if "" in languages else languages,
            "pipeline_tag": self.pipeline_tag,
            "tags": list(self.tags),
            "datasets": sorted({corpus for corpus in self.corpora if corpus}),
            "base_model": self.base_model,
            "metrics": sorted({each.metric for each in self.measured.entries})
            if self.measured
            else [],
            "model-index": model_index(self.name, self.measured) if self.measured else [],
        }
        text = yaml.safe_dump(
            {name: value for name, value in known.items() if value},
            sort_keys=False,
            allow_unicode=True,
        )
        return f"---\n{text}---\n"


def model_index(name: str, measured: Measurements) -> list[dict[str, Any]]:
    """Return measurements of a model of this name as the hub's `model-index`."""
    corpus = visible(measured.corpus) or UNKNOWN
    result = {
        "task": {"type": measured.task, "name": visible(measured.task_name)},
        "dataset": {
            "type": identifier(corpus),
            "name": corpus,
            "split": measured.split,
        },
        "metrics": [
            {"type": each.metric, "value": each.value, "name": visible(each.name)}
            for each in measured.entries
        ],
    }
    return [{"name": visible(name), "results": [result]}]


def name_on_hub(origin: str | None) -> str:
    """Return the name on the hub of the model that another one is made of; empty if it has none."""
    if origin is None or not is_hub_url(origin):
        return ""
    try:
        place = find_hub_place(origin)
    except ConfigError:
        # Records from elsewhere may name data there, or nothing at all.
        return ""
    return place.repository if place else ""


def identifier(name: str) -> str:
    """Return a name of letters, digits, `-`, `_` and `.`, as the hub takes them."""
    return OTHER_CHARACTERS.sub("-", name).strip("-") or UNKNOWN


def corpora_of(*trainings: TrainingFacts) -> list[str]:
    """Return the names on the hub of the corpora of trainings, and of the models they began with.

    One is empty where a corpus has no name, or is not recorded.
    """
    names: list[str] = []
    for facts in trainings:
        names += facts.hub_datasets or ("",)
        if (origin := facts.continued_from) is None:
            continue
        names += corpora_of(read_facts(origin.training))
        names += corpora_of(read_facts(origin.head_training)) if origin.head_training else []
        # Of models before that one, only their places are recorded.
        names += [""] if origin.models_before else []
    return names
