"""The outputs of a model for every utterance of a part: decisions, embeddings, scores of trials."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from aalbert.models.downstream import DownstreamModel, HeadLayer, similarity
from aalbert.models.finite import require_finite
from aalbert.shards.loading.config import LoaderConfig, OrderConfig
from aalbert.shards.loading.loader import Loader
from aalbert.shards.loading.order import Rows
from aalbert.train.downstream.confusion import Confusion, add_up, count_pairs
from aalbert.train.downstream.inputs import Inputs
from aalbert.train.downstream.label_grid import LabelGrid
from aalbert.train.downstream.labels import NO_CLASS, Labels
from aalbert.train.downstream.trials import Pairs

# Lists have up to a million trials, whose embeddings would fill memory.
TRIALS_AT_ONCE = 2**14


@dataclass(frozen=True, eq=False, kw_only=True)
class Decisions:
    """Predicted classes for the utterances of a split, or their frames; one entry an utterance.

    Of the `scored` items of an utterance (itself, or its frames), `correct` were classified
    correctly; `confusion` counts items by true and predicted class. Where whole utterances are
    classified, `true` and `predicted` are their classes, `score` is the softmax of the predicted
    one, and `top_5` tells whether the true class is among the five with the highest scores; they
    are None for frames. Where frames are classified on a grid of label frames too,
    `scored_by_time` and `correct_by_time` count those.
    """

    names: Sequence[str]
    rows: Rows
    scored: NDArray[np.int64]
    correct: NDArray[np.int64]
    confusion: Confusion
    true: NDArray[np.int64] | None = None
    predicted: NDArray[np.int64] | None = None
    score: NDArray[np.float32] | None = None
    top_5: NDArray[np.bool_] | None = None
    scored_by_time: NDArray[np.int64] | None = None
    correct_by_time: NDArray[np.int64] | None = None

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
        entries = {field.name: getattr(self, field.name) for field in fields(self)}
        ordered = {
            name: value[order]
            for name, value in entries.items()
            if value is not None and name not in ("names", "confusion")
        }
        return replace(self, **ordered)

    def by_time(self) -> "Decisions":
        """Return the decisions over label frames; all runs on the same labels have as many.

        The confusion stays that of the run's own frames.
        """
        assert self.scored_by_time is not None and self.correct_by_time is not None
        return replace(self, scored=self.scored_by_time, correct=self.correct_by_time)


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


def whole_utterances(inputs: Inputs, rows: Rows, batch_seconds: float, prefetch: int) -> Loader:
    """Return a loader that gives every utterance whole and once, batched by length."""
    frames = round(batch_seconds * 1000 / inputs.stored.frame_shift_ms)
    order = OrderConfig(frames_per_batch=frames)
    settings = LoaderConfig(order=order, feature=inputs.feature, shuffle=False, prefetch=prefetch)
    return inputs.loader(rows, settings)


@dataclass(frozen=True)
class Outputs:
    """What a layer of the head gives for some utterances: `values (batch, ...)`.

    `rows (batch,)` are those of the dataset, on the CPU, `lengths (batch,)` the frames that the
    head read.
    """

    rows: Tensor
    values: Tensor
    lengths: Tensor


def outputs_of_batches(
    model: DownstreamModel, loader: Loader, layer: HeadLayer
) -> Iterator[Outputs]:
    """Yield the outputs for the batches that a loader gives, without gradient."""
    device = model.head.centre.device
    for batch in loader:
        moved = batch.to(device)
        with torch.no_grad():
            states, lengths = model.states(moved.features, moved.lengths)
            values = layer(states, lengths)
        yield Outputs(batch.rows.clone(), values, lengths)


def outputs_of_each(model: DownstreamModel, loader: Loader, layer: HeadLayer) -> Iterator[Outputs]:
    """Yield the outputs for all that a loader gives as `predict` computes them.

    They depend on nothing but the utterance, on a CPU in every bit.
    """
    utterances = (
        (row, features[:length].float())
        for batch in loader
        for row, length, features in zip(
            batch.rows.tolist(), batch.lengths.tolist(), batch.features, strict=True
        )
    )
    for rows, values, lengths in model.outputs_of_each(utterances, layer):
        yield Outputs(torch.tensor(rows), values, lengths)


def require_finite_batch(values: Tensor, rows: Tensor, key_of: Callable[[int], str]) -> None:
    """Raise `DivergedError` for the first utterance whose values `(batch, ...)` are not finite."""
    finite = values.flatten(1).isfinite().all(dim=1).cpu()
    if not bool(finite.all()):
        place = int(finite.int().argmin())
        require_finite(values[place], key_of(int(rows[place])))


@torch.no_grad()
def classify(
    outputs: Iterable[Outputs], labels: Labels, grid: LabelGrid | None = None
) -> tuple[Decisions, float]:
    """Classify utterances by the scores of a head; return the decisions and mean cross-entropy.

    With a `grid` the decisions about frames are counted by time too. The model should be in
    evaluation mode, and the labels and the grid on its device.
    """
    classes = len(labels.names)
    confusions: list[Confusion] = []
    loss = 0.0
    entries: dict[str, list[Tensor]] = defaultdict(list)
    for output in outputs:
        device = output.values.device
        rows, lengths = output.rows.to(device), output.lengths
        targets = labels.targets(rows, lengths, output.values).cpu()
        scores = output.values.float().cpu()
        predicted, scored = scores.argmax(dim=-1), targets != NO_CLASS
        pairs = targets[scored].numpy(), predicted[scored].numpy()
        confusions.append(count_pairs(*pairs, classes))
        loss += float(F.cross_entropy(scores[scored], targets[scored], reduction="sum"))
        # An utterance is one item or has one a frame; both are summed over each utterance.
        correct = (predicted == targets) & scored
        entries["rows"].append(output.rows)
        entries["scored"].append(scored.reshape(len(scored), -1).sum(dim=1))
        entries["correct"].append(correct.reshape(len(correct), -1).sum(dim=1))
        if grid is not None:
            counts = grid.count_correct(rows, lengths, predicted.to(device))
            entries["scored_by_time"].append(counts[0].cpu())
            entries["correct_by_time"].append(counts[1].cpu())
        if scores.dim() == 2:
            best = scores.topk(min(5, classes), dim=-1).indices
            entries["true"].append(targets)
            entries["predicted"].append(predicted)
            entries["score"].append(scores.softmax(dim=-1).amax(dim=-1))
            entries["top_5"].append((best == targets.unsqueeze(1)).any(dim=1))
    decisions = Decisions(
        names=labels.names,
        confusion=add_up(confusions, classes),
        **{name: torch.cat(tensors).numpy() for name, tensors in entries.items()},
    )
    return decisions, loss / max(1, int(decisions.scored.sum()))


def gather(outputs: Iterable[Outputs], key_of: Callable[[int], str]) -> tuple[Rows, Tensor]:
    """Return the rows of outputs and their values, such as embeddings `(rows, dims)`.

    Raises `DivergedError` with the key of an utterance whose values are not finite.
    """
    rows, values = [], []
    for output in outputs:
        values.append(output.values.float().cpu())
        require_finite_batch(values[-1], output.rows, key_of)
        rows.append(output.rows)
    return torch.cat(rows).numpy(), torch.cat(values)


def score_trials(rows: Rows, embeddings: Tensor, pairs: Pairs) -> Trials:
    """Score every trial by the cosine of its two embeddings."""
    order = np.argsort(rows)
    places = [order[np.searchsorted(rows[order], side)] for side in (pairs.left, pairs.right)]
    scores = [
        similarity(*(embeddings[side[first : first + TRIALS_AT_ONCE]] for side in places))
        for first in range(0, len(pairs.same), TRIALS_AT_ONCE)
    ]
    return Trials(
        left=pairs.left, right=pairs.right, same=pairs.same, scores=torch.cat(scores).numpy()
    )
