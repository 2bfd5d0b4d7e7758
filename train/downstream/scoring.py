"""The outputs of a model for every utterance of a part, and the scores of trials."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aalbert.common.progress import shown
from aalbert.models.downstream import DownstreamModel, HeadLayer
from aalbert.models.finite import require_finite
from aalbert.models.trial_scorer import COSINE, TrialScorer, Voices, similarity
from aalbert.shards.loading.batch import Batch
from aalbert.shards.loading.config import LoaderConfig, OrderConfig
from aalbert.shards.loading.loader import Loader
from aalbert.shards.loading.order import Rows
from aalbert.train.downstream.error_rates import equal_error_rate, error_rates
from aalbert.train.downstream.inputs import Inputs
from aalbert.train.downstream.measures import EQUAL_ERROR_RATE, Measure
from aalbert.train.downstream.trials import Pairs

# Lists have up to a million trials, whose embeddings would fill memory.
TRIALS_AT_ONCE = 2**14


@dataclass(frozen=True, eq=False, kw_only=True)
class Trials:
    """Pairs of utterances, whether both are of one speaker, and a similarity score of each.

    `left` and `right` are rows of the dataset; a higher score is more similar. `cosines` are what
    the scores are made of, None where they are these themselves; `calibrated` scores are
    log-likelihood ratios.
    """

    left: Rows
    right: Rows
    same: NDArray[np.bool_]
    scores: NDArray[np.float64]
    cosines: NDArray[np.float64] | None = None
    calibrated: bool = False

    @property
    def measure(self) -> Measure:
        """The equal error rate."""
        return EQUAL_ERROR_RATE

    @property
    def value(self) -> float:
        """The equal error rate of the scores."""
        return equal_error_rate(error_rates(self.scores, self.same))

    @property
    def rows(self) -> Rows:
        """The rows of all utterances in the trials, each once, rising."""
        return np.unique(np.concatenate([self.left, self.right]))

    def counts(self) -> dict[str, int]:
        """Return how much was tested."""
        same = int(self.same.sum())
        return {"utterances": len(self.rows), "trials": len(self.same), "same_speaker": same}

    def table(self, keys: Sequence[str]) -> list[list[object]]:
        """Return a header and a row a trial, with the keys of its utterances."""
        cosines = self.scores if self.cosines is None else self.cosines
        entries = zip(self.left, self.right, self.same, cosines, self.scores, strict=True)
        return [
            ["left", "right", "same", "cosine", "score"],
            *(
                [keys[left], keys[right], int(same), float(cosine), float(score)]
                for left, right, same, cosine, score in entries
            ),
        ]


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


def shown_batches(loader: Loader, description: str) -> Iterator[Batch]:
    """Yield the batches of a loader that gives each utterance once, and show the progress."""
    total = sum(len(selection.rows) for selection in loader.selections)
    return shown(
        loader, description, total=total, unit="utterance", count=lambda batch: len(batch.rows)
    )


def outputs_of_each(
    model: DownstreamModel, loader: Loader, layer: HeadLayer, *, shown_as: str | None = None
) -> Iterator[Outputs]:
    """Yield the outputs for all that a loader gives as `predict` computes them.

    They depend on nothing but the utterance, on a CPU in every bit. The progress is shown with the
    description `shown_as`, if there is one.
    """
    batches = loader if shown_as is None else shown_batches(loader, shown_as)
    utterances = (
        (row, features[:length].float())
        for batch in batches
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


def entries_in_row_order(outcome: Any, whole: Collection[str]) -> dict[str, Any]:
    """Return the fields of an outcome that have an entry an utterance, with rising rows.

    Utterances without a scored item are left out, and the fields `whole`, which have no entries.
    """
    order = np.argsort(outcome.rows)
    order = order[outcome.scored[order] > 0]
    entries = {
        each.name: getattr(outcome, each.name) for each in fields(outcome) if each.name not in whole
    }
    return {name: value[order] for name, value in entries.items() if value is not None}


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


def voices_of(
    scorer: TrialScorer, outputs: Iterable[Outputs], inputs: Inputs
) -> tuple[Rows, Voices]:
    """Return the rows of embeddings, and the utterances as they are compared."""
    rows, embeddings = gather(outputs, inputs.dataset.key)
    seconds = inputs.seconds()[rows]
    speakers = inputs.dataset.column("speaker")
    own = [speakers[row] for row in rows.tolist()]
    return rows, scorer.voices(embeddings, seconds.tolist(), own)


class KnownVoices:
    """The utterances of a run that were embedded for one list of trials, for its next lists."""

    def __init__(self) -> None:
        self.rows: Rows = np.empty(0, np.int64)
        self.voices: Voices | None = None

    def add(self, rows: Rows, read: Callable[[Rows], tuple[Rows, Voices]]) -> tuple[Rows, Voices]:
        """Return all rows so far and their utterances; `read` gives those that are new."""
        new = np.setdiff1d(rows, self.rows)
        if len(new) or self.voices is None:
            found, voices = read(new)
            self.rows = np.concatenate([self.rows, found])
            self.voices = voices if self.voices is None else self.voices.followed_by(voices)
        return self.rows, self.voices

    def keep(self, rows: Rows) -> None:
        """Forget all utterances but those of some rows, since those of long lists fill memory."""
        if self.voices is not None:
            kept = np.flatnonzero(np.isin(self.rows, rows))
            self.rows, self.voices = self.rows[kept], self.voices.at(torch.from_numpy(kept))


def score_trials(scorer: TrialScorer, rows: Rows, voices: Voices, pairs: Pairs) -> Trials:
    """Score every trial by its two utterances, which are among the `rows` of the `voices`."""
    scores, cosines = [], []
    for left, right in sides_in_turn(rows, voices, pairs):
        scores.append(scorer.score(left, right))
        cosines.append(similarity(left.embeddings, right.embeddings))
    return Trials(
        left=pairs.left,
        right=pairs.right,
        same=pairs.same,
        scores=torch.cat(scores).numpy(),
        cosines=None if scorer.describe() == COSINE else torch.cat(cosines).numpy(),
        calibrated=scorer.calibration is not None,
    )


def few_utterances(trials: Trials, most: int) -> Trials:
    """Return as many trials, drawn once for their number, as have at most so many utterances."""
    if len(trials.rows) <= most:
        return trials
    order = np.random.default_rng(len(trials.same)).permutation(len(trials.same))
    sides = np.stack([trials.left[order], trials.right[order]], axis=1).reshape(-1)
    first = np.sort(np.unique(sides, return_index=True)[1])
    # The trial that has the first utterance too many is left out, with all after it.
    chosen = np.sort(order[: first[most] // 2])
    return Trials(
        left=trials.left[chosen],
        right=trials.right[chosen],
        same=trials.same[chosen],
        scores=trials.scores[chosen],
        cosines=None if trials.cosines is None else trials.cosines[chosen],
        calibrated=trials.calibrated,
    )


def sides_in_turn(rows: Rows, voices: Voices, pairs: Pairs) -> Iterator[tuple[Voices, Voices]]:
    """Yield both utterances of the trials, some thousands of trials at a time."""
    order = np.argsort(rows)
    left, right = (
        torch.from_numpy(order[np.searchsorted(rows[order], side)])
        for side in (pairs.left, pairs.right)
    )
    for first in range(0, len(pairs.same), TRIALS_AT_ONCE):
        chosen = slice(first, first + TRIALS_AT_ONCE)
        yield voices.at(left[chosen]), voices.at(right[chosen])
