"""What a run said of every utterance or trial of the test split, as CSV for one's own analysis."""

from collections.abc import Iterator

from aalbert.shards.reading.dataset import Dataset
from aalbert.train.evaluation.tables import csv_text
from aalbert.train.outcomes import Decisions, Outcome, Trials

PREDICTIONS_NAME = "predictions.csv"


def predictions_csv(outcome: Outcome, dataset: Dataset) -> str:
    """Return one line per utterance or trial, in the order of the test list, with keys."""
    keys: list[str] = dataset.table.column("key").to_pylist()
    rows = trial_lines(outcome, keys) if isinstance(outcome, Trials) else lines(outcome, keys)
    return csv_text(list(rows))


def trial_lines(trials: Trials, keys: list[str]) -> Iterator[list[object]]:
    """Yield a header and the score of every trial."""
    yield ["left", "right", "same", "score"]
    for left, right, same, score in zip(
        trials.left, trials.right, trials.same, trials.scores, strict=True
    ):
        yield [keys[left], keys[right], int(same), round(float(score), 6)]


def lines(decisions: Decisions, keys: list[str]) -> Iterator[list[object]]:
    """Yield a header and the classes of every utterance, or how many frames were right."""
    if decisions.truth is None or decisions.named is None:
        yield ["key", "frames", "right"]
        for row, counted, right in zip(
            decisions.rows, decisions.counted, decisions.right, strict=True
        ):
            yield [keys[row], int(counted), int(right)]
        return
    yield ["key", "true", "named"]
    for row, truth, named in zip(decisions.rows, decisions.truth, decisions.named, strict=True):
        yield [keys[row], decisions.names[int(truth)], decisions.names[int(named)]]
