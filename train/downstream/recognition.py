"""The phones that are recognised in utterances, beside the true ones."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from aalbert.models.ctc import decode_greedily
from aalbert.shards.loading.order import Rows
from aalbert.train.downstream.confusion import Confusion, count_pairs
from aalbert.train.downstream.edit_distance import Edits, align
from aalbert.train.downstream.labels import NO_CLASS
from aalbert.train.downstream.measures import PHONE_ERROR_RATE, PHONE_ERRORS, Measure
from aalbert.train.downstream.phone_sequences import PhoneSequences
from aalbert.train.downstream.scoring import Outputs, entries_in_row_order


@dataclass(frozen=True, eq=False, kw_only=True)
class Recognised:
    """The phones that were recognised in the utterances of a part; one entry an utterance.

    `true` and `predicted` are phones between spaces, `scored` the number of true ones, and
    `too_short` says which utterances have fewer frames than these need. The `confusion` counts
    pairs of an alignment with the fewest edits, and the phones without a counterpart.
    """

    names: Sequence[str]
    rows: Rows
    scored: NDArray[np.int64]
    substitutions: NDArray[np.int64]
    deletions: NDArray[np.int64]
    insertions: NDArray[np.int64]
    too_short: NDArray[np.bool_]
    true: NDArray[np.object_]
    predicted: NDArray[np.object_]
    confusion: Confusion

    @property
    def measure(self) -> Measure:
        """The phone error rate."""
        return PHONE_ERROR_RATE

    @property
    def value(self) -> float:
        """The edits of all utterances over their true phones."""
        return float(self.amounts.sum() / self.scored.sum())

    @property
    def truth(self) -> tuple[NDArray[np.object_], ...]:
        """What was to be predicted: the true phones."""
        return (self.true,)

    @property
    def amounts(self) -> NDArray[np.int64]:
        """The number of edits of every utterance."""
        return self.substitutions + self.deletions + self.insertions

    def further(self) -> dict[str, float]:
        """Return the kinds of errors, each over the true phones."""
        kinds = (self.substitutions, self.deletions, self.insertions)
        phones = self.scored.sum()
        return {
            name: float(each.sum() / phones) for name, each in zip(PHONE_ERRORS, kinds, strict=True)
        }

    def counts(self) -> dict[str, int]:
        """Return how much was tested."""
        return {
            "utterances": len(self.rows),
            "phones": int(self.scored.sum()),
            "too_short": int(self.too_short.sum()),
        }

    def in_row_order(self) -> "Recognised":
        """Return the entries with rising rows."""
        return replace(self, **entries_in_row_order(self, ("names", "confusion")))

    def table(self, keys: Sequence[str]) -> list[list[object]]:
        """Return a header and a row an utterance, with its key, its phones and its errors."""
        texts = zip(self.true, self.predicted, strict=True)
        kinds = np.stack([self.scored, self.substitutions, self.deletions, self.insertions], axis=1)
        return [
            ["key", "true", "predicted", "phones", *PHONE_ERRORS],
            *(
                [keys[row], *spoken, *numbers]
                for row, spoken, numbers in zip(self.rows, texts, kinds.tolist(), strict=True)
            ),
        ]


@torch.no_grad()
def recognise(outputs: Iterable[Outputs], labels: PhoneSequences) -> tuple[Recognised, float]:
    """Return the phones of greedy decoding, beside the true ones, and the mean loss a phone.

    The loss is over the utterances that have enough frames for their phones; all are recognised.
    """
    rows: list[int] = []
    alignable: list[int] = []
    edits: list[Edits] = []
    predicted: list[list[int]] = []
    loss, phones = 0.0, 0
    for output in outputs:
        on_device = output.rows.to(output.values.device)
        losses, counts = labels.losses(on_device, output.lengths, output.values)
        loss, phones = loss + float(losses.sum()), phones + int(counts.sum())
        alignable += counts.tolist()
        scores = output.values.float().cpu()
        for row, length, score in zip(
            output.rows.tolist(), output.lengths.tolist(), scores, strict=True
        ):
            rows.append(row)
            predicted.append(decode_greedily(score[:length]))
            edits.append(align(labels.of_row(row), predicted[-1]))
    too_short = np.array(alignable, np.int64) == 0
    return recognised(labels, rows, predicted, edits, too_short), loss / max(1, phones)


def recognised(
    labels: PhoneSequences,
    rows: Sequence[int],
    predicted: Sequence[Sequence[int]],
    edits: Sequence[Edits],
    too_short: NDArray[np.bool_],
) -> Recognised:
    """Return what was recognised in rows, by the edits that make it of the true phones."""
    names = labels.names

    def texts(sequences: Iterable[Sequence[int]]) -> NDArray[np.object_]:
        return np.array([" ".join(names[each] for each in one) for one in sequences], object)

    true = [labels.of_row(row) for row in rows]
    return Recognised(
        names=names,
        rows=np.array(rows, np.int64),
        scored=np.array([len(each) for each in true], np.int64),
        substitutions=np.array([each.substitutions for each in edits], np.int64),
        deletions=np.array([each.deletions for each in edits], np.int64),
        insertions=np.array([each.insertions for each in edits], np.int64),
        too_short=too_short,
        true=texts(true),
        predicted=texts(predicted),
        confusion=count_edits(edits, len(names)),
    )


def count_edits(edits: Sequence[Edits], classes: int) -> Confusion:
    """Count the pairs of alignments, and the phones that were deleted and inserted."""
    pairs = np.array(
        [
            (NO_CLASS if one is None else one, NO_CLASS if two is None else two)
            for each in edits
            for one, two in each.pairs
        ],
        np.int64,
    ).reshape(-1, 2)
    true, predicted = pairs.T
    paired = (true != NO_CLASS) & (predicted != NO_CLASS)
    return replace(
        count_pairs(true[paired], predicted[paired], classes),
        deleted=np.bincount(true[predicted == NO_CLASS], minlength=classes),
        inserted=np.bincount(predicted[true == NO_CLASS], minlength=classes),
    )
