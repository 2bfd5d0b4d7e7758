"""Numbers to predict: one an utterance, from a column of the index, and the predicted ones."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aalbert.errors import InputError
from aalbert.shards.loading.order import Rows
from aalbert.shards.reading.dataset import Dataset
from aalbert.train.downstream.config import RegressionConfig
from aalbert.train.downstream.measures import (
    MEAN_ABSOLUTE_ERROR,
    SENTIMENT_SHARES,
    Measure,
)
from aalbert.train.downstream.scoring import Outputs, entries_in_row_order

Floats = NDArray[np.float64]
# The ends of the scale of CMU-MOSI and CMU-MOSEI, and of the classes that its numbers round to.
SENTIMENT_END = 3.0


class NumberLabels(nn.Module):
    """One number an utterance, NaN where it has none, and the settings of their prediction.

    `mean`, `median` and `deviation` are those of the numbers to train on.
    """

    number_of_row: Tensor

    def __init__(self, number_of_row: Floats, train: Rows, config: RegressionConfig) -> None:
        super().__init__()
        self.names: list[str] = []
        self.config = config
        known = number_of_row[train]
        self.mean, self.median = float(known.mean()), float(np.median(known))
        self.deviation = float(known.std())
        self.register_buffer("number_of_row", torch.from_numpy(number_of_row), persistent=False)

    def losses(self, rows: Tensor, scores: Tensor) -> Tensor:
        """Return the loss of every utterance `(batch,)` by the predicted numbers `(batch, 1)`.

        It is the absolute or the squared error of standardised numbers, whatever their unit is.
        """
        # In float64, which large numbers need, such as seconds since 1970.
        errors = (scores.double().squeeze(-1) - self.number_of_row[rows]) / self.deviation
        return (errors.abs() if self.config.loss == "l1" else errors.square()).float()


def find_numbers(dataset: Dataset, column: str, config: RegressionConfig) -> Floats:
    """Return the number that a column has in every row, NaN where it has no value.

    Raises `InputError` that names the utterance whose value is no finite number, or none of the
    scale of sentiment, and where no row has a value.
    """
    found = np.full(len(dataset), np.nan)
    for row, text in enumerate(dataset.column(column)):
        if not (text or "").strip():
            continue
        number = as_number(str(text))
        if number is None or (config.sentiment and abs(number) > SENTIMENT_END):
            expected = "from -3 to 3 (regression.sentiment)" if config.sentiment else "such as 4.5"
            raise InputError(
                f"{dataset.place}: the {column} of '{dataset.key(row)}' is '{text}': expected a "
                f"number {expected}, or nothing, which leaves the utterance out"
            )
        found[row] = number
    if np.isnan(found).all():
        raise InputError(f"{dataset.place}: no utterance has a {column}: name another column")
    return found


def as_number(text: str) -> float | None:
    """Return the finite number that a text is, if it is one; `1_000` is none."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and "_" not in text else None


@dataclass(frozen=True, eq=False, kw_only=True)
class Numbers:
    """The `true` numbers of the utterances of a part, and those `predicted`; one entry each.

    With `sentiment` they are of the scale from -3 to 3, and are counted by its classes too.
    """

    rows: Rows
    true: Floats
    predicted: Floats
    sentiment: bool = False

    @property
    def measure(self) -> Measure:
        """The mean absolute error."""
        return MEAN_ABSOLUTE_ERROR

    @property
    def value(self) -> float:
        """The mean absolute error, in the unit of the numbers."""
        return float(self.amounts.mean())

    @property
    def truth(self) -> tuple[Floats, ...]:
        """What was to be predicted: the true numbers."""
        return (self.true,)

    @property
    def amounts(self) -> Floats:
        """The absolute error of every utterance."""
        return np.abs(self.predicted - self.true)

    @property
    def scored(self) -> NDArray[np.int64]:
        """The number of items of every utterance: itself."""
        return np.ones(len(self.rows), np.int64)

    def further(self) -> dict[str, float]:
        """Return the other metrics: correlations, and the shares of classes of sentiment."""
        true, predicted = self.true, self.predicted
        metrics = {
            "RMSE": math.sqrt(float(np.square(predicted - true).mean())),
            "Pearson": pearson(true, predicted),
            "Spearman": pearson(ranks(true), ranks(predicted)),
            "CCC": concordance(true, predicted),
            "R2": determination(true, predicted),
        }
        if self.sentiment:
            metrics |= dict(zip(SENTIMENT_SHARES, sentiment_shares(true, predicted), strict=True))
        return metrics

    def counts(self) -> dict[str, int]:
        """Return how much was tested."""
        return {"utterances": len(self.rows)}

    def in_row_order(self) -> "Numbers":
        """Return the numbers with rising rows."""
        return replace(self, **entries_in_row_order(self, ("sentiment",)))

    def table(self, keys: Sequence[str]) -> list[list[object]]:
        """Return a header and a row an utterance, with its key and both numbers."""
        entries = zip(self.rows, self.true, self.predicted, strict=True)
        numbers = ([keys[row], float(true), float(predicted)] for row, true, predicted in entries)
        return [["key", "true", "predicted"], *numbers]


@torch.no_grad()
def estimate(outputs: Iterable[Outputs], labels: NumberLabels) -> tuple[Numbers, float]:
    """Return the numbers that a head gives for utterances, and the mean loss.

    The model should be in evaluation mode, and the labels on its device.
    """
    rows, predicted, losses = [], [], []
    for output in outputs:
        losses.append(labels.losses(output.rows.to(output.values.device), output.values).cpu())
        rows.append(output.rows)
        predicted.append(output.values.squeeze(-1).double().cpu())
    tested = torch.cat(rows)
    numbers = Numbers(
        rows=tested.numpy(),
        true=labels.number_of_row.cpu()[tested].numpy(),
        predicted=torch.cat(predicted).numpy(),
        sentiment=labels.config.sentiment,
    )
    return numbers, float(torch.cat(losses).mean())


def pearson(true: Floats, predicted: Floats) -> float:
    """Return the correlation of numbers; 0 where either are all the same, so that there is none."""
    if constant(true) or constant(predicted):
        return 0.0
    return float(covariance(true, predicted) / (true.std() * predicted.std()))


def constant(numbers: Floats) -> bool:
    """Return whether numbers are all the same; rounding may give these a deviation."""
    return bool(numbers.min() == numbers.max())


def covariance(true: Floats, predicted: Floats) -> float:
    """Return the covariance of numbers, over their number."""
    return float(((true - true.mean()) * (predicted - predicted.mean())).mean())


def ranks(numbers: Floats) -> Floats:
    """Return the rank of every number from 1 on; equal ones have the mean of theirs."""
    _, place, counts = np.unique(numbers, return_inverse=True, return_counts=True)
    means: Floats = np.cumsum(counts) - (counts - 1) / 2
    return means[place]


def concordance(true: Floats, predicted: Floats) -> float:
    """Return the concordance correlation coefficient (Lin 1989); 1 where all equal the true ones.

    `2 covariance / (variance + variance + (mean - mean)^2)`, variances over the number of items.
    """
    if constant(true) or constant(predicted):
        return float(np.array_equal(true, predicted))
    spread = true.var() + predicted.var() + (true.mean() - predicted.mean()) ** 2
    return float(2 * covariance(true, predicted) / spread)


def determination(true: Floats, predicted: Floats) -> float:
    """Return R2, the share of the variance that is explained; 0 where there is no variance."""
    if constant(true):
        return 0.0
    return 1 - float(np.square(predicted - true).mean() / true.var())


def sentiment_shares(true: Floats, predicted: Floats) -> tuple[float, ...]:
    """Return the shares that the field states of sentiment, in the order of their names.

    Accuracy and F1 of two classes are those of MulT (Tsai et al. 2019) and MISA (Hazarika et al.
    2020): negative against all others, and negative against positive, without the utterances whose
    true number is 0.
    """
    some = true != 0
    return (
        *accuracy_and_f1(true >= 0, predicted >= 0),
        *accuracy_and_f1(true[some] > 0, predicted[some] > 0),
        seven_class_accuracy(true, predicted),
    )


def accuracy_and_f1(true: NDArray[np.bool_], predicted: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the accuracy of two classes, and the mean of their F1 by their true numbers.

    Without any item both are 0.
    """
    if not len(true):
        return 0.0, 0.0
    f1 = 0.0
    for kind in (False, True):
        both = int(((true == kind) & (predicted == kind)).sum())
        either = int((true == kind).sum() + (predicted == kind).sum())
        f1 += float((true == kind).mean()) * 2 * both / max(1, either)
    return float((true == predicted).mean()), f1


def seven_class_accuracy(true: Floats, predicted: Floats) -> float:
    """Return the share of utterances of which both numbers round to the same of -3 to 3."""
    classes = [np.rint(each.clip(-SENTIMENT_END, SENTIMENT_END)) for each in (true, predicted)]
    return float((classes[0] == classes[1]).mean())
