"""Speaker identification: who speaks in the rows of a dataset, and how well a model tells."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_confusion_matrix,
)

from aalbert.errors import ConfigError, InputError
from aalbert.models.classifier import SpeakerClassifier
from aalbert.shards.assembly import LoaderConfig
from aalbert.shards.dataset import Dataset, Selection
from aalbert.shards.loader import Loader
from aalbert.shards.order import OrderConfig, Rows


@dataclass(frozen=True)
class Speakers:
    """The classes: names in the order of a model's scores, and the class of every row or -1."""

    names: list[str]
    class_of_row: Tensor

    def rows(self, dataset: Dataset, split: str) -> Rows:
        """Return the rows of a split; `InputError` when one has a speaker of no class."""
        rows = dataset.rows([split])
        unknown = rows[self.class_of_row.numpy()[rows] < 0]
        if len(rows) == 0:
            raise InputError(f"{dataset.place}: the split '{split}' is empty")
        if len(unknown):
            speaker = dataset.table.column("speaker")[int(unknown[0])].as_py()
            raise InputError(
                f"{dataset.place}: {len(unknown)} utterances of the split '{split}' are by "
                f"speakers without training data, for example '{speaker}'"
            )
        return rows


def find_speakers(dataset: Dataset, train_split: str) -> Speakers:
    """Take as classes the speakers of the training split, in the order of their names."""
    column = dataset.column("speaker")
    names = sorted({column[row] or "" for row in dataset.rows([train_split])} - {""})
    if len(names) < 2:
        raise ConfigError(
            f"{dataset.place}: the split '{train_split}' has {len(names)} speakers, "
            "identification needs at least 2"
        )
    return name_classes(dataset, names)


def name_classes(dataset: Dataset, names: list[str]) -> Speakers:
    """Assign the rows of a dataset to classes with these names."""
    number = {name: index for index, name in enumerate(names)}
    column = dataset.column("speaker")
    return Speakers(names, torch.tensor([number.get(name or "", -1) for name in column]))


def evaluation_loader(
    dataset: Dataset, rows: Rows, feature: str, batch_seconds: float, prefetch: int
) -> Loader:
    """Return a loader that gives every utterance whole and once, batched by length."""
    shift_ms = dataset.manifest.features[feature].frame_shift_ms
    order = OrderConfig(frames_per_batch=round(batch_seconds * 1000 / shift_ms))
    settings = LoaderConfig(order=order, feature=feature, shuffle=False, prefetch=prefetch)
    return Loader(Selection(dataset, rows), settings)


@dataclass(frozen=True)
class Scores:
    """A model's scores `(utterances, speakers)`, the true classes, and the rows they are of."""

    scores: Tensor
    classes: Tensor
    rows: Rows

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Whether the best score of each utterance is that of its speaker."""
        right: NDArray[np.bool_] = (self.scores.argmax(dim=1) == self.classes).numpy()
        return right

    @property
    def loss(self) -> float:
        """The mean cross-entropy."""
        return float(F.cross_entropy(self.scores, self.classes))

    def accuracy(self, top: int = 1) -> float:
        """Return the share of utterances whose speaker is among the `top` best scores."""
        speakers = self.scores.shape[1]
        share = multiclass_accuracy(
            self.scores, self.classes, speakers, average="micro", top_k=min(top, speakers)
        )
        return round(float(share), 6)

    def confusion(self) -> NDArray[np.int64]:
        """Return counts `(true speaker, named speaker)`."""
        counts: NDArray[np.int64] = multiclass_confusion_matrix(
            self.scores, self.classes, self.scores.shape[1]
        ).numpy()
        return counts


@torch.no_grad()
def score(model: SpeakerClassifier, loader: Loader, speakers: Speakers) -> Scores:
    """Score every utterance of a loader; the model should be in evaluation mode."""
    device = next(model.head.parameters()).device
    scores: list[Tensor] = []
    rows: list[Tensor] = []
    for batch in loader:
        moved = batch.to(device)
        scores.append(model(moved.features, moved.lengths).float().cpu())
        rows.append(batch.rows)
    all_rows = torch.cat(rows)
    return Scores(torch.cat(scores), speakers.class_of_row[all_rows], all_rows.numpy())


def bootstrap_interval(
    correct: Sequence[bool] | NDArray[np.bool_], *, seed: int = 0, draws: int = 10_000
) -> tuple[float, float]:
    """Return the 95 % interval of an accuracy by the percentile bootstrap (Efron 1979)."""
    outcomes = np.asarray(correct)
    generator = np.random.default_rng(seed)
    # Resampling n outcomes and counting the right ones is a binomial draw.
    means = generator.binomial(len(outcomes), outcomes.mean(), draws) / len(outcomes)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
