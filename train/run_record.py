"""The record of a run, `run.json`: what it was made with and on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from annotated_types import Ge, Le

from aalbert.errors import require
from aalbert.models.training_facts import Origin
from aalbert.train.preset import PRETRAIN

# The entry with the model that a run continues from; the training of what it exports has it too.
CONTINUED_FROM = "continued_from"
# The entry with the hash of the weights in the run's own copy of that model.
START_WEIGHTS = "start_weights"


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What `run.json` holds.

    Pretraining has lists of datasets; only downstream runs have an upstream, and only a run that
    continues from a model has that one's facts. The entries from `trivial_predictors` on are added
    later.
    """

    task: str
    data: str | tuple[str, ...]
    data_fingerprint: str | tuple[str, ...]
    files: Mapping[str, str]
    seed: int
    threads: Annotated[int, Ge(1), Le(2**16)]
    settings: Mapping[str, Any]
    software: Mapping[str, str]
    python: str
    host: str
    system: str
    command: str
    upstream: str = ""
    # None for features, which have no weights.
    upstream_weights: str | None = ""
    # Of the checkpoint of another system that the upstream was converted from.
    upstream_file: str = ""
    upstream_parameters: Annotated[int, Ge(0)] = 0
    # Of an encoder of another library, the corpus whose waves it reads.
    upstream_software: str = ""
    corpus: str = ""
    continued_from: Origin | None = None
    start_weights: str = ""
    trivial_predictors: Mapping[str, float] = field(default_factory=dict)
    exported: str = ""
    exported_step: int = 0
    changes: tuple[Mapping[str, Any], ...] = ()
    diverged: str = ""

    def __post_init__(self) -> None:
        """Refuse what the task does not have."""
        kind = tuple if self.task == PRETRAIN else str
        for name in ("data", "data_fingerprint"):
            value = getattr(self, name)
            require(isinstance(value, kind), f"{name} of {self.task!r:.60} is {value!r:.60}")
        if self.task == PRETRAIN:
            counts = len(self.data), len(self.data_fingerprint)
            require(counts[0] == counts[1], "{} datasets have {} fingerprints".format(*counts))
        require(
            (self.continued_from is None) == (not self.start_weights),
            f"{CONTINUED_FROM} and {START_WEIGHTS} go together",
        )
        for name in ("upstream", "upstream_weights"):
            require(
                self.task == PRETRAIN or getattr(self, name) != "",
                f"{self.task!r:.60} has no {name}",
            )
