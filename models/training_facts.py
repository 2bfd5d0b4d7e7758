"""Facts of training that are saved with a model: those that are used, checked, among all others."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Any

from annotated_types import Ge

from aalbert.common.json_files import as_record
from aalbert.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The model that a run of pretraining continues from.

    `model` is its place, without the secrets of a URL. The `models_before` led to it, latest first:
    their places by the hashes of their weights. In full they would be nested deeper with every
    model, until nothing could read them. `head_training` are the facts of the latest head with
    which the encoder was trained, on its labels; none if it never was.
    """

    model: str
    kind: str
    weights_xxh3: str
    training: Mapping[str, Any]
    models_before: Mapping[str, str]
    head_training: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse facts that cannot be used."""
        read_facts(self.training)
        read_facts(self.head_training)


@dataclass(frozen=True, kw_only=True)
class TrainingFacts:
    """What is used of the facts of a training, which may have others, only to be listed.

    `speech_hours` are those of the speech that led to the weights, by the names of its splits;
    empty where nobody recorded them.
    `hub_datasets` are the names on the Hugging Face hub of its corpora, empty where there is none;
    `converted_from` is the checkpoint of another system that a model was, `converted_file_xxh3` the
    hash of its file. Those of a head have an `upstream`, the place on the hub of the encoder that
    it was put on, and say how that took part.
    """

    corpus: str = ""
    speech_hours: Mapping[str, Annotated[float, Ge(0)]] = field(default_factory=dict)
    hub_datasets: tuple[str, ...] = ()
    held_out_loss: float | None = None
    trivial_predictors: Mapping[str, float] = field(default_factory=dict)
    continued_from: Origin | None = None
    converted_from: str = ""
    converted_file_xxh3: str = ""
    task: str = ""
    labels: str = ""
    upstream: str | None = None
    mode: str = ""
    untrained: bool = False

    @property
    def hours(self) -> float | None:
        """The hours of different speech that led to the weights, None where they are not known."""
        return round(sum(self.speech_hours.values()), 6) if self.speech_hours else None

    @property
    def from_scratch(self) -> bool:
        """Whether an encoder was trained with the head alone, from random weights."""
        return self.mode == "from-scratch"


def read_facts(training: Mapping[str, Any]) -> TrainingFacts:
    """Return what is used of facts of training; `ConfigError` names the first of another type."""
    names = {each.name for each in fields(TrainingFacts)}
    used = {name: value for name, value in training.items() if name in names}
    try:
        return as_record(TrainingFacts, used)
    except ValueError as error:
        raise ConfigError(f"training.{error}") from error
