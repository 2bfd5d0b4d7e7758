"""Decisions: the predicted classes of utterances, or of their frames, beside the true ones."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from aalbert.shards.loading.order import Rows
from aalbert.train.downstream.confusion import Confusion, add_up, count_pairs
from aalbert.train.downstream.label_grid import LabelGrid
from aalbert.train.downstream.labels import NO_CLASS, Labels
from aalbert.train.downstream.measures import ACCURACY, FRAME_ACCURACY, Measure
from aalbert.train.downstream.scoring import Outputs, entries_in_row_order


@dataclass(frozen=True, eq=False, kw_only=True)
class Decisions:
    """Predicted classes for the utterances of a split, or their frames; one entry an utterance.

    Of the `scored` items of an utterance (itself, or its frames), `correct` were classified
    correctly; `confusion` counts items by true and predicted class. Where whole utterances are
    classified, `true` and `predicted` are their classes, `score` is the softmax of the predicted
    one, and `top_5` tells whether the true class is among the five with the highest scores; they
    are None for frames. Where frames are classified on a grid of label frames too,
    `scored_by_time` and `correct_by_time` count those, and `label_checksums` tell the labels of
    one utterance from others.
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
    label_checksums: NDArray[np.int64] | None = None

    @property
    def measure(self) -> Measure:
        """The accuracy, over utterances or over frames."""
        return FRAME_ACCURACY if self.of_frames else ACCURACY

    @property
    def value(self) -> float:
        """The share of items that were classified correctly."""
        return float(self.correct.sum() / self.scored.sum())

    @property
    def of_frames(self) -> bool:
        """True if the items are frames, not utterances."""
        return self.true is None

    @property
    def truth(self) -> tuple[NDArray[Any], ...]:
        """What was to be predicted: the names, and the true classes, of frames by checksums."""
        truths = (self.true, self.label_checksums)
        return (np.array(self.names), *(each for each in truths if each is not None))

    @property
    def amounts(self) -> NDArray[np.int64]:
        """What the measure adds up for every utterance, to be divided by the scored items."""
        return self.correct

    def further(self) -> dict[str, float]:
        """Return the other metrics."""
        return {} if self.top_5 is None else {"top-5 accuracy": float(self.top_5.mean())}

    def counts(self) -> dict[str, int]:
        """Return how much was tested."""
        frames = {"frames": int(self.scored.sum())} if self.of_frames else {}
        return {"utterances": len(self.rows), "classes": len(self.names), **frames}

    def in_row_order(self) -> "Decisions":
        """Return the decisions with rising rows, without utterances that have no scored item.

        Runs may batch differently, and an utterance may have no labelled frame. The confusion
        stays as it is.
        """
        return replace(self, **entries_in_row_order(self, ("names", "confusion")))

    def table(self, keys: Sequence[str]) -> list[list[object]]:
        """Return a header and a row an utterance, with its key.

        Whole utterances have the true and the predicted class with its score, others the number
        of their frames and of those that were classified correctly.
        """
        if self.true is None or self.predicted is None or self.score is None:
            numbers = zip(self.rows, self.scored, self.correct, strict=True)
            header: list[object] = ["key", "frames", "correct"]
            return [header, *([keys[row], int(all_), int(right)] for row, all_, right in numbers)]
        entries = zip(self.rows, self.true, self.predicted, self.score, strict=True)
        return [
            ["key", "true", "predicted", "score"],
            *(
                [keys[row], self.names[int(true)], self.names[int(predicted)], float(score)]
                for row, true, predicted, score in entries
            ),
        ]

    def by_time(self) -> "Decisions":
        """Return the decisions over label frames; all runs on the same labels have as many.

        The confusion stays that of the run's own frames.
        """
        assert self.scored_by_time is not None and self.correct_by_time is not None
        return replace(self, scored=self.scored_by_time, correct=self.correct_by_time)


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
            entries["label_checksums"].append(grid.checksums(rows))
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
