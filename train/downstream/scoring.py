"""The outputs of a model for every utterance of a part: decisions, embeddings, scores of trials."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

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


@dataclass(frozen=True, eq=False, kw_only=True)
class Decisions:
    """Predicted classes for the utterances of a split, or their frames; one entry an utterance.

    Of the `scored` items of an utterance (itself, or its frames), `correct` were classified
    correctly; `confusion` counts items `(true class, predicted class)`. Where whole utterances
    are classified, `true` and `predicted` are their classes and `top_5` tells whether the true
    class is among the five with the highest scores; they are None for frames.
    """

    names: Sequence[str]
    rows: Rows
    scored: NDArray[np.int64]
    correct: NDArray[np.int64]
    confusion: NDArray[np.int64]
    true: NDArray[np.int64] | None = None
    predicted: NDArray[np.int64] | None = None
    top_5: NDArray[np.bool_] | None = None

    @property
    def accuracy(self) -> float:
        """The share of items that were classified correctly."""
        return float(self.correct.sum() / self.scored.sum())

    def in_row_order(self) -> "Decisions":
        """Return the decisions with rising rows, without utterances that have no scored item.

        Runs may batch differently, and an utterance may have no labelled frame. The confusion
        stays as it is.
        """
        order = np.argsort(self.rows)
        order = order[self.scored[order] > 0]
        return replace(
            self,
            rows=self.rows[order],
            scored=self.scored[order],
            correct=self.correct[order],
            true=None if self.true is None else self.true[order],
            predicted=None if self.predicted is None else self.predicted[order],
            top_5=None if self.top_5 is None else self.top_5[order],
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class Trials:
    """Pairs of utterances, whether both are of one speaker, and a similarity score of each.

    `left` and `right` are rows of the dataset; a higher score is more similar.
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


@torch.no_grad()
def classify(model: DownstreamModel, loader: Loader, labels: Labels) -> tuple[Decisions, float]:
    """Classify all that a loader gives; return the decisions and the mean cross-entropy.

    The model should be in evaluation mode, and the labels on its device.
    """
    device = model.head.centre.device
    classes = len(labels.names)
    confusion = torch.zeros(classes**2, dtype=torch.int64)
    loss = 0.0
    entries: dict[str, list[Tensor]] = defaultdict(list)
    for batch in loader:
        moved = batch.to(device)
        states, lengths = model.states(moved.features, moved.lengths)
        scores = model.head(states, lengths)
        targets = labels.targets(moved.rows, lengths, scores).cpu()
        scores = scores.float().cpu()
        predicted, scored = scores.argmax(dim=-1), targets != NO_CLASS
        pairs = targets[scored] * classes + predicted[scored]
        confusion += torch.bincount(pairs, minlength=classes**2)
        loss += float(F.cross_entropy(scores[scored], targets[scored], reduction="sum"))
        # An utterance is one item or has one a frame; both are summed over each utterance.
        correct = (predicted == targets) & scored
        entries["rows"].append(batch.rows.clone())
        entries["scored"].append(scored.reshape(len(scored), -1).sum(dim=1))
        entries["correct"].append(correct.reshape(len(correct), -1).sum(dim=1))
        if scores.dim() == 2:
            best = scores.topk(min(5, classes), dim=-1).indices
            entries["true"].append(targets)
            entries["predicted"].append(predicted)
            entries["top_5"].append((best == targets.unsqueeze(1)).any(dim=1))
    decisions = Decisions(
        names=labels.names,
        confusion=confusion.reshape(classes, classes).numpy(),
        **{name: torch.cat(tensors).numpy() for name, tensors in entries.items()},
    )
    return decisions, loss / max(1, int(decisions.scored.sum()))


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
