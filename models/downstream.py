"""A downstream model: an upstream, frozen or fine-tuned, and the head of a task on it."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from aalbert.errors import require
from aalbert.models.any_upstream import AnyUpstream, AnyUpstreamConfig
from aalbert.models.calibration import Calibration
from aalbert.models.cards.downstream import Score, downstream_card
from aalbert.models.checkpoint import load_checkpoint, reading_config, save_checkpoint
from aalbert.models.cohort import Cohort
from aalbert.models.cohort_settings import CohortSettings
from aalbert.models.downstream_head import DownstreamHead, normalised
from aalbert.models.head_config import HeadConfig, LayerChoice, Predicts
from aalbert.models.rebuild import rebuild
from aalbert.models.static_batches import (
    StaticBatch,
    compute_each,
    static_batches,
)
from aalbert.models.training_facts import read_facts
from aalbert.models.trial_scorer import TrialScorer
from aalbert.models.upstream import Upstream, count_parameters
from aalbert.models.wave_encoders.open import reopen_wave_encoder
from aalbert.models.wave_encoders.wave_upstream import WaveUpstreamConfig

KIND = "downstream"
Item = TypeVar("Item")
# What a layer of the head makes of hidden states and the numbers of their frames.
HeadLayer = Callable[[Sequence[Tensor], Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """The score from which two utterances are taken to be of one speaker, chosen on dev trials.

    Of these, `trials` in number, it misses the share `misses` of those of one speaker, and accepts
    the share `false_alarms` of those of two.
    """

    score: float
    misses: float
    false_alarms: float
    trials: int


@dataclass(frozen=True, kw_only=True)
class SavedDownstream:
    """The description of a saved model.

    Of an upstream of another library it says where that is; only the head is saved.
    """

    upstream: AnyUpstreamConfig
    classes: tuple[str, ...]
    layers: LayerChoice
    head: HeadConfig
    frozen: bool
    predicts: Predicts = "classes"
    threshold: Threshold | None = None
    cohort: CohortSettings | None = None
    calibration: Calibration | None = None
    training: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        read_facts(self.upstream.training)
        read_facts(self.training)
        require(
            self.cohort is not None
            or self.calibration is None
            or not self.calibration.needs_cohort,
            "its calibration weighs scores against a cohort, and there is none",
        )


class DownstreamModel(nn.Module):
    """A model that scores classes from features `(batch, frames, dims)`.

    `classes` are their names in the order of the scores; without a classifier the model
    returns embeddings only. It may predict a number in place of classes, or a sequence of them. A
    frozen upstream stays in evaluation mode and gets no gradient. A model that compares speakers
    has a `threshold`, unless there was nothing to choose it on, and may have a `cohort` and a
    `calibration`, by which its scores are made. `training` has facts about the training of the
    head, such as its task.
    """

    def __init__(
        self,
        upstream: AnyUpstream,
        classes: Sequence[str],
        layers: LayerChoice,
        head: HeadConfig,
        *,
        frozen: bool = True,
        predicts: Predicts = "classes",
        threshold: Threshold | None = None,
        cohort: CohortSettings | None = None,
        calibration: Calibration | None = None,
        training: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.threshold = threshold
        self.calibration = calibration
        self.training_facts = dict(training or {})
        self.classes = list(classes)
        self.frozen = frozen
        self.predicts = predicts
        self.upstream = upstream
        self.head = DownstreamHead(
            upstream.states, upstream.width, len(classes), layers, head, predicts
        )
        self.cohort = Cohort(cohort, len(self.head.centre)) if cohort else None
        if frozen:
            self.upstream.eval().requires_grad_(False)
        elif isinstance(upstream, Upstream) and upstream.encoder is not None:
            upstream.encoder.train_for(self.head.chosen)

    def __repr__(self) -> str:
        return f"DownstreamModel({self.in_words()})"

    def in_words(self) -> str:
        """Return what it is in one line: what it predicts, its head, and its upstream."""
        does = f"{len(self.classes):,} classes" if self.classes else f"predicts {self.predicts}"
        if self.head.classifier is None:
            does = "compares utterances"
        task = self.training_facts.get("task")
        return (
            f"{f'{task}, ' * bool(task)}{does}; head: {self.head.config.describe()}, "
            f"{count_parameters(self.head):,} parameters; {'frozen' if self.frozen else 'trained'} "
            f"upstream: {self.upstream.in_words()}"
        )

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Return the scores `(batch, classes)`, or `(batch, frames, classes)` for a frame task."""
        scores: Tensor = self.head(*self.states(features, lengths))
        return scores

    def embed(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Return the inputs of the classifier, `(batch, dims)` or per frame."""
        return self.head.embed(*self.states(features, lengths))

    def states(self, features: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the hidden states that the head reads, normalised if it wants, and their lengths.

        `features` may also be cached states, `(batch, frames, states, width)`, as this returned
        them: those of a frozen upstream have to be computed only once.
        """
        if features.dim() == 4:
            return list(features.float().unbind(dim=2)), lengths
        with torch.no_grad() if self.frozen else nullcontext():
            states, state_lengths = self.upstream(features, lengths)
        chosen = [states[number] for number in self.head.chosen]
        return normalised(chosen) if self.head.config.normalise_states else chosen, state_lengths

    def outputs_of_each(
        self, utterances: Iterable[tuple[Item, Tensor]], layer: HeadLayer
    ) -> Iterator[tuple[list[Item], Tensor, Tensor]]:
        """Yield what a layer of the head gives for features `(frames, dims)`, in static batches.

        These are the items, the outputs `(items, ...)` and the frames `(items,)` that the head
        read. On a CPU they depend on nothing but the utterance, in every bit.
        """
        device = self.head.centre.device

        def compute(batch: StaticBatch[Item]) -> tuple[Tensor, Tensor]:
            states, lengths = self.states(batch.features.to(device), batch.lengths.to(device))
            return layer(states, lengths), lengths

        shapes = self.upstream.batch_shapes(device)
        batches = compute_each(
            static_batches(utterances, shapes), compute, device, shapes.frames_at_once
        )
        for batch, (outputs, lengths) in batches:
            # Rows without an utterance fill a batch.
            real = len(batch.items)
            yield batch.items, outputs[:real], lengths[:real]

    @property
    def scorer(self) -> TrialScorer:
        """What compares the embeddings of two utterances."""
        return TrialScorer(self.cohort, self.calibration)

    def train(self, mode: bool = True) -> "DownstreamModel":
        """Set the mode; a frozen upstream stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.upstream.eval()
        return self

    def save_pretrained(self, place: Path | str) -> None:
        """Write `model.safetensors`, `config.json` and a model card to a folder or a URL."""
        save_checkpoint(place, self, self.document(), self.card())

    def document(self) -> dict[str, Any]:
        """Return the configuration that the model is rebuilt from, as a JSON document."""
        return {
            "kind": KIND,
            "upstream": self.upstream.config.to_dict(),
            "layers": self.head.layers,
            "head": asdict(self.head.config),
            "frozen": self.frozen,
            "classes": self.classes,
            "predicts": self.predicts,
            "threshold": self.threshold and asdict(self.threshold),
            "cohort": self.cohort and asdict(self.cohort.settings),
            "calibration": self.calibration and asdict(self.calibration),
            "training": self.training_facts,
        }

    def card(self, score: Score | None = None) -> str:
        """Return the model card in Markdown, with the score of the model if it was measured."""
        return downstream_card(
            self.document(),
            head=self.head.config.describe(),
            head_parameters=count_parameters(self.head),
            score=score,
        )

    @classmethod
    def from_pretrained(cls, place: Path | str) -> "DownstreamModel":
        """Load a saved model or the result of a downstream run, in evaluation mode.

        An encoder of another library is opened where it was; `InputError` when it is gone,
        `IntegrityError` when it is another one now.
        """
        tensors, saved = load_checkpoint(place, KIND, SavedDownstream)
        make_upstream = opener(saved.upstream)

        def make() -> "DownstreamModel":
            return cls(
                make_upstream(),
                saved.classes,
                saved.layers,
                saved.head,
                frozen=saved.frozen,
                predicts=saved.predicts,
                threshold=saved.threshold,
                cohort=saved.cohort,
                calibration=saved.calibration,
                training=saved.training,
            )

        model = rebuild(make, tensors, place)
        if model.cohort is not None:
            with reading_config(place):
                model.cohort.require_sound()
        return model


def opener(config: AnyUpstreamConfig) -> Callable[[], AnyUpstream]:
    """Return what makes the upstream that a saved model describes, without its weights.

    One of another library has them, and is opened once.
    """
    if isinstance(config, WaveUpstreamConfig):
        opened = reopen_wave_encoder(config)
        return lambda: opened
    return partial(Upstream, config)
