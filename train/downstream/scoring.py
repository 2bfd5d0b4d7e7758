"""The outputs of a model for every utterance of a part: decisions, embeddings, scores of trials."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from aalbert.models.downstream import DownstreamModel
from aalbert.shards.loading.config import LoaderConfig, OrderConfig
from aalbert.shards.loading.loader import Loader
from aalbert.shards.loading.order import Rows
from aalbert.shards.reading.dataset import Dataset, Selection
from aalbert.train.downstream.labels import NO_CLASS, Labels
from aalbert.train.downstream.trials import Pairs

BEST = 5


@dataclass(frozen=True, eq=False, kw_only=True)
class Decisions:
    """Classes named for the utterances of a split, or for their frames; one entry an utterance.

    Of the `counted` items of an utterance (itself, or its frames) `right` were named as they
    should be; `confusion` counts items `(true class, named class)`. Where whole utterances are
    classified, `truth` and `named` are their classes and `top_5` says whether the true one was
    among the five best; they are None for frames.
    """

    names: Sequence[str]
    rows: Rows
    counted: NDArray[np.int64]
    right: NDArray[np.int64]
    confusion: NDArray[np.int64]
    truth: NDArray[np.int64] | None = None
    named: NDArray[np.int64] | None = None
    top_5: NDArray[np.bool_] | None = None

    @property
    def accuracy(self) -> float:
        """The share of items that were named right."""
        return float(self.right.sum() / self.counted.sum())

    def take(self, places: NDArray[np.int64]) -> "Decisions":
        """Return the decisions on the utterances at these places; the confusion stays whole."""
        return replace(
            self,
            rows=self.rows[places],
            counted=self.counted[places],
            right=self.right[places],
            truth=None if self.truth is None else self.truth[places],
            named=None if self.named is None else self.named[places],
            top_5=None if self.top_5 is None else self.top_5[places],
        )

    def in_row_order(self) -> "Decisions":
        """Return the decisions with rising rows, without utterances of which nothing counted.

        Runs may batch differently, and an utterance may have no labelled frame.
        """
        order = np.argsort(self.rows)
        return self.take(order[self.counted[order] > 0])


@dataclass(frozen=True, eq=False, kw_only=True)
class Trials:
    """Pairs of utterances, whether one speaker says both, and how alike a model found them.

    `left` and `right` are rows of the dataset; a higher score is more alike.
    """

    left: Rows
    right: Rows
    same: NDArray[np.bool_]
    scores: NDArray[np.float64]


Outcome = Decisions | Trials


def whole_utterances(
    dataset: Dataset, rows: Rows, feature: str, batch_seconds: float, prefetch: int
) -> Loader:
    """Return a loader that gives every utterance whole and once, batched by length."""
    shift_ms = dataset.manifest.features[feature].frame_shift_ms
    order = OrderConfig(frames_per_batch=round(batch_seconds * 1000 / shift_ms))
    settings = LoaderConfig(order=order, feature=feature, shuffle=False, prefetch=prefetch)
    return Loader(Selection(dataset, rows), settings)


@dataclass
class Tally:
    """Decisions as they come, batch after batch, and their cross-entropy."""

    classes: int
    rows: list[Tensor] = field(default_factory=list)
    counted: list[Tensor] = field(default_factory=list)
    right: list[Tensor] = field(default_factory=list)
    named: list[Tensor] = field(default_factory=list)
    truth: list[Tensor] = field(default_factory=list)
    top: list[Tensor] = field(default_factory=list)
    loss: float = 0.0

    def __post_init__(self) -> None:
        self.confusion = torch.zeros(self.classes**2, dtype=torch.int64)

    def add(self, rows: Tensor, scores: Tensor, targets: Tensor) -> None:
        """Count the decisions of a batch, one item an utterance or one a frame."""
        items = targets != NO_CLASS
        named = scores.argmax(dim=-1)
        pairs = targets[items] * self.classes + named[items]
        self.confusion += torch.bincount(pairs, minlength=self.classes**2)
        self.loss += float(F.cross_entropy(scores[items], targets[items], reduction="sum"))
        self.rows.append(rows)
        self.counted.append(items.reshape(len(rows), -1).sum(dim=1))
        self.right.append(((named == targets) & items).reshape(len(rows), -1).sum(dim=1))
        if scores.dim() == 2:
            self.named.append(named)
            self.truth.append(targets)
            best = scores.topk(min(BEST, self.classes), dim=-1).indices
            self.top.append((best == targets.unsqueeze(1)).any(dim=1))

    def decisions(self, names: list[str]) -> Decisions:
        """Return all decisions; classes of utterances only where whole ones were classified."""
        whole = bool(self.named)
        return Decisions(
            names=names,
            rows=torch.cat(self.rows).numpy(),
            counted=torch.cat(self.counted).numpy(),
            right=torch.cat(self.right).numpy(),
            confusion=self.confusion.reshape(self.classes, self.classes).numpy(),
            named=torch.cat(self.named).numpy() if whole else None,
            truth=torch.cat(self.truth).numpy() if whole else None,
            top_5=torch.cat(self.top).numpy() if whole else None,
        )

    @property
    def mean_loss(self) -> float:
        """The mean cross-entropy of an item."""
        return self.loss / max(1, int(torch.cat(self.counted).sum()))


@torch.no_grad()
def decide(model: DownstreamModel, loader: Loader, labels: Labels) -> tuple[Decisions, float]:
    """Classify all that a loader gives; return the decisions and the mean cross-entropy.

    The model should be in evaluation mode, and the labels on its device.
    """
    device = model.head.centre.device
    tally = Tally(len(labels.names))
    for batch in loader:
        moved = batch.to(device)
        states, lengths = model.states(moved.features, moved.lengths)
        scores = model.head(states, lengths)
        targets = labels.targets(moved.rows, lengths, scores)
        tally.add(batch.rows.clone(), scores.float().cpu(), targets.cpu())
    return tally.decisions(labels.names), tally.mean_loss


@torch.no_grad()
def embed_all(model: DownstreamModel, loader: Loader) -> tuple[Rows, Tensor]:
    """Return the rows that a loader gives and their embeddings `(rows, dims)`."""
    device = model.head.centre.device
    rows, embeddings = [], []
    for batch in loader:
        moved = batch.to(device)
        embeddings.append(model.embed(moved.features, moved.lengths).float().cpu())
        rows.append(batch.rows.clone())
    return torch.cat(rows).numpy(), torch.cat(embeddings)


def score_trials(rows: Rows, embeddings: Tensor, pairs: Pairs) -> Trials:
    """Score every trial by the cosine of its two embeddings."""
    order = np.argsort(rows)
    unit = F.normalize(embeddings.double(), dim=-1)[torch.from_numpy(order)]
    left, right = (
        unit[torch.from_numpy(np.searchsorted(rows[order], side))]
        for side in (pairs.left, pairs.right)
    )
    scores = (left * right).sum(dim=-1).numpy()
    return Trials(left=pairs.left, right=pairs.right, same=pairs.same, scores=scores)
