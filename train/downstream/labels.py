"""The labels of a task: its classes, and the true class of every scored utterance or frame."""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from aalbert.errors import ConfigError, InputError
from aalbert.models.head_config import HeadConfig
from aalbert.models.layout import frame_mask
from aalbert.shards.loading.order import Rows
from aalbert.shards.reading.dataset import Dataset
from aalbert.train.downstream.config import LabelConfig

# Of padding, and of items without a label or with one that is left out.
NO_CLASS = -1
# Of items whose label no utterance to train on has.
UNKNOWN_CLASS = -2


class Labels(Protocol):
    """The names of the classes, and the true classes of a batch."""

    names: list[str]

    def targets(self, rows: Tensor, lengths: Tensor, scores: Tensor) -> Tensor:
        """Return the class of every score: `scores` `(..., classes)` without its last axis.

        `rows (batch,)` are the utterances, `lengths (batch,)` their frames as scored.
        """
        ...

    def majority(self, train: Rows) -> int:
        """Return the most frequent class of these rows."""
        ...


class ColumnLabels(nn.Module):
    """One class an utterance, from a column of the index; frames take that of their utterance."""

    class_of_row: Tensor

    def __init__(self, names: Sequence[str], class_of_row: Tensor) -> None:
        super().__init__()
        self.names = list(names)
        self.register_buffer("class_of_row", class_of_row, persistent=False)

    def targets(self, rows: Tensor, lengths: Tensor, scores: Tensor) -> Tensor:
        """Return the class of every utterance, or of every frame."""
        classes = self.class_of_row[rows]
        if scores.dim() == 2:
            return classes
        real = frame_mask(lengths, scores.shape[1])
        return torch.where(real, classes.unsqueeze(1), NO_CLASS)

    def row_classes(self) -> NDArray[np.int64]:
        """Return the class of every row."""
        classes: NDArray[np.int64] = self.class_of_row.cpu().numpy()
        return classes

    def majority(self, train: Rows) -> int:
        """Return the most frequent class of these rows."""
        return int(np.bincount(self.row_classes()[train]).argmax())


def find_classes(dataset: Dataset, config: LabelConfig, rows: Rows) -> ColumnLabels:
    """Return as classes the values that a column has in these rows, in alphabetical order.

    Raises `ConfigError` when there are fewer than two.
    """
    column = dataset.column(config.column)
    counts = Counter(column[row] or "" for row in rows)
    del counts[""]
    names = sorted(name for name, count in counts.items() if count >= config.least_utterances)
    if len(names) < 2:
        few = f" of at least {config.least_utterances} utterances"
        raise ConfigError(
            f"{dataset.place}: the column '{config.column}' has {len(names)} "
            f"value{'s' * (len(names) != 1)}{few * (config.least_utterances > 1)} in the split "
            "to train on: classification needs at least 2"
        )
    left_out = counts.keys() - set(names)
    return assign_classes(dataset, config.column, names, left_out)


def assign_classes(
    dataset: Dataset, column: str, names: Sequence[str], left_out: Collection[str] = ()
) -> ColumnLabels:
    """Return the classes of all rows of a dataset, where the classes have these names."""
    number = dict.fromkeys(("", *left_out), NO_CLASS)
    number |= {name: index for index, name in enumerate(names)}
    classes = [number.get(name or "", UNKNOWN_CLASS) for name in dataset.column(column)]
    return ColumnLabels(names, torch.tensor(classes))


def require_training_data(dataset: Dataset, labels: ColumnLabels, column: str, train: Rows) -> None:
    """Raise `InputError` when a class has no utterance to train on."""
    untrained = np.setdiff1d(np.arange(len(labels.names)), labels.row_classes()[train])
    if len(untrained):
        raise InputError(
            f"{dataset.place}: {len(untrained)} of {len(labels.names)} values of '{column}' have "
            f"no utterance to train on, for example '{labels.names[untrained[0]]}'; leave small "
            "classes out with --set labels.least_utterances=N, or raise splits.proportion"
        )


def classification_loss(scores: Tensor, targets: Tensor, head: HeadConfig) -> Tensor:
    """Return the cross-entropy of `scores (..., classes)`; targets of -1 are ignored.

    With a cosine classifier the true class must be ahead by a margin, AM-softmax (Wang et al.
    2018): `-log softmax(scale (cos - margin))`.
    """
    if head.classifier == "cosine":
        true = targets.clamp(min=0).unsqueeze(-1)
        margin = torch.full_like(true, head.scale * head.margin, dtype=scores.dtype)
        scores = scores.scatter_add(-1, true, -margin)
    return F.cross_entropy(scores.float().flatten(0, -2), targets.flatten(), ignore_index=NO_CLASS)
