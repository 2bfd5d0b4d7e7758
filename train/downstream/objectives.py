"""What each kind of labels trains a head with, and the outcome that it measures it by."""

from collections.abc import Iterable

from torch import Tensor

from aalbert.models.head_config import HeadConfig, Predicts
from aalbert.train.downstream.decisions import classify
from aalbert.train.downstream.label_grid import LabelGrid
from aalbert.train.downstream.labels import ColumnLabels, classification_loss
from aalbert.train.downstream.numbers import NumberLabels, estimate
from aalbert.train.downstream.outcomes import Tallied
from aalbert.train.downstream.phone_sequences import PhoneSequences
from aalbert.train.downstream.phones import FrameLabels
from aalbert.train.downstream.recognition import recognise
from aalbert.train.downstream.scoring import Outputs

ClassLabels = ColumnLabels | FrameLabels
TaskLabels = ClassLabels | NumberLabels | PhoneSequences


def predicted_by(labels: TaskLabels) -> Predicts:
    """Return what a head predicts that is trained on these labels."""
    if isinstance(labels, NumberLabels):
        return "number"
    return "sequence" if isinstance(labels, PhoneSequences) else "classes"


def training_loss(
    labels: TaskLabels, rows: Tensor, lengths: Tensor, scores: Tensor, head: HeadConfig
) -> Tensor:
    """Return the loss of a batch by its scores `(batch, ...)`: a mean over its items.

    `rows (batch,)` are the utterances, `lengths (batch,)` their frames as scored.
    """
    if isinstance(labels, NumberLabels):
        return labels.losses(rows, scores).mean()
    if isinstance(labels, PhoneSequences):
        return labels.loss(rows, lengths, scores)
    return classification_loss(scores, labels.targets(rows, lengths, scores), head)


def outcome_of(
    outputs: Iterable[Outputs], labels: TaskLabels, grid: LabelGrid | None = None
) -> tuple[Tallied, float]:
    """Return the outcome of the scores of a head, and the mean loss.

    With a `grid` decisions about frames are counted by time too. The model should be in evaluation
    mode, and the labels and the grid on its device.
    """
    if isinstance(labels, NumberLabels):
        return estimate(outputs, labels)
    if isinstance(labels, PhoneSequences):
        return recognise(outputs, labels)
    return classify(outputs, labels, grid)
