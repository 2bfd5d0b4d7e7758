"""The result of an evaluation: the metric, its interval, and everything that they depend on."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from aalbert.common.hub import find_hub_place
from aalbert.errors import ConfigError
from aalbert.models.checkpoint import EXPORT_FOLDER
from aalbert.models.downstream_head import layer_words
from aalbert.models.encoder_names import COMMIT_DIGITS, is_wave_encoder, short_name
from aalbert.shards.format.feature_settings import SETTINGS_BY_KIND
from aalbert.train.downstream.left_out import LeftOut
from aalbert.train.evaluation.breakdown import ClassResult, ConfusedPair, Group, Unpaired
from aalbert.train.evaluation.metrics import Metric
from aalbert.train.evaluation.probes import LayerProbe


@dataclass(frozen=True, kw_only=True)
class Result:
    """The result of one run on one split: metric, counts, data, model, training, breakdowns.

    The upstream takes `macs_per_second` multiply-accumulates for a second of audio, from stored
    features or from the wave; `pretraining_hours` are those of different speech that it learned
    from, None where that is not known. `upstream_software` is the library that an encoder of waves
    is of, empty for others. `trials` is the name of the list of trials, and `score_is` what their
    scores are; both are empty for other tasks, of which `predicts` names what is predicted: a
    column of the index, or phones. Of the speakers of the trials, `speakers_in_cohort` are in the
    cohort: an utterance is not compared with its own speaker there, but may be with the other one
    of its trial. `left_out` is what the test part lacks of its split, None where a list names all
    that is tested. A frame of the upstream holds `context` stored frames around it, or
    `frames_stacked` in turn; both are 0 where it reads waves.
    """

    run: str
    task: str
    split: str
    trials: str
    trials_xxh3: str
    score_is: str
    speakers_in_cohort: int
    predicts: str
    metric: Metric
    counts: dict[str, int]
    left_out: LeftOut | None
    data: str
    data_fingerprint: str
    upstream: str
    untrained: bool
    mode: str
    upstream_parameters: int
    macs_per_second: int
    pretraining_hours: float | None
    upstream_training: dict[str, Any]
    upstream_weights: str | None
    upstream_software: str
    states: int
    width: int
    frame_shift_ms: float
    context: int
    frames_stacked: int
    head: str
    head_parameters: int
    layers: str
    layer_weights: tuple[float, ...]
    learning_rate: float
    epochs: int
    seed: int
    by_duration: tuple[Group, ...]
    by_gender: tuple[Group, ...]
    per_class: tuple[ClassResult, ...]
    most_confused: tuple[ConfusedPair, ...]
    most_deleted: tuple[Unpaired, ...]
    most_inserted: tuple[Unpaired, ...]
    layer_probes: tuple[LayerProbe, ...]

    @property
    def upstream_name(self) -> str:
        """The name of the upstream in tables."""
        name = Path(self.upstream).name
        origin = Path(self.upstream).parent.name if name == EXPORT_FOLDER else name
        if (place := find_hub_place(self.upstream)) is not None and place.revision:
            origin = f"{place.repository}@{place.revision[:COMMIT_DIGITS]}"
        if is_wave_encoder(self.upstream):
            origin = short_name(self.upstream)
        features = name in SETTINGS_BY_KIND
        marks = [
            features and self.context > 1 and f"context of {self.context}",
            features and self.frames_stacked > 1 and f"{self.frames_stacked} stacked",
            self.untrained and "untrained",
            self.mode != "frozen" and self.mode,
            self.layers != "weighted" and not features and layer_words(self.layers),
        ]
        return ", ".join([origin, *(mark for mark in marks if mark)])

    def to_dict(self) -> dict[str, Any]:
        """Return the result as a JSON document."""
        return asdict(self)


def require_comparable(results: Sequence[Result]) -> None:
    """Raise `ConfigError` unless runs are of one task and were tested on the same data."""
    first = results[0]
    for result in results[1:]:
        if result.task != first.task:
            raise ConfigError(
                f"{result.run} is of the task '{result.task}' and {first.run} of '{first.task}': "
                "evaluate them one by one, their figures cannot be compared"
            )
        if result.predicts != first.predicts:
            raise ConfigError(
                f"{result.run} predicts '{result.predicts}' and {first.run} '{first.predicts}': "
                "evaluate them one by one, their figures cannot be compared"
            )
        if tested_on(result) != tested_on(first):
            raise ConfigError(
                f"{result.run} was tested on other data than {first.run}: "
                "evaluate them one by one, their figures cannot be compared"
            )


def tested_on(result: Result) -> tuple[str, ...]:
    """Return what two results must share to be compared: the data, its split, and the trials."""
    return result.data_fingerprint, result.split, result.trials, result.trials_xxh3
