"""Layer probing: the task's metric from each hidden state alone, independent of the head.

For classes a probe is ridge regression onto one-hot classes, which has a closed form: no learning
rate, no epochs, and a deterministic result. It is fitted on the training split, its penalty is
selected on dev, and only then is it tested. For trials a probe is the cosine of the averaged
states, with nothing to fit. Both measure a layer, not the system.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from aalbert.models.any_upstream import AnyUpstream
from aalbert.models.downstream_head import normalised
from aalbert.models.pooling import mean_pool
from aalbert.shards.loading.order import Rows
from aalbert.train.downstream.error_rates import equal_error_rate, error_rates
from aalbert.train.downstream.inputs import Inputs
from aalbert.train.downstream.scoring import require_finite_batch, shown_batches, whole_utterances
from aalbert.train.evaluation.significance import Interval, share_interval

# Per utterance, relative to the mean variance of the standardised inputs, which is one.
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
# Each with a score of every class.
SCORED_AT_ONCE = 1_000
Floats = NDArray[np.float64]
Embeddings = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class LayerProbe:
    """The task's metric from one hidden state alone.

    For classes it has an interval, the number of utterances or frames that the probe was fitted
    on, and its penalty, if it has one.
    """

    state: int
    value: float
    interval_95: Interval | None = None
    penalty: float | None = None
    fitted_on: int | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Labelled:
    """Pooled hidden states `(utterances, states, width)` and the class of every utterance."""

    states: NDArray[np.float32]
    classes: NDArray[np.int64]


class Ridge:
    """Ridge regression of one-hot classes on standardised vectors, for any penalty.

    The eigenvectors of the inputs' covariance are computed once; a penalty then costs a product.
    """

    def __init__(self, vectors: Floats, classes: NDArray[np.int64], number: int) -> None:
        self.mean = vectors.mean(axis=0)
        self.scale = np.maximum(vectors.std(axis=0), 1e-8)
        standard = (vectors - self.mean) / self.scale
        self.bias = np.bincount(classes, minlength=number) / len(classes)
        self.variances, self.axes = np.linalg.eigh(standard.T @ standard / len(standard))
        # Sums over the utterances of each class: one-hot targets would be as many numbers as
        # utterances times classes.
        sums = np.zeros((number, standard.shape[1]))
        np.add.at(sums, classes, standard)
        products = sums.T - np.outer(standard.sum(axis=0), self.bias)
        self.covariance = self.axes.T @ products / len(standard)

    def scores(self, vectors: Floats, penalty: float) -> Floats:
        """Return the score of every class, `(utterances, classes)`."""
        shrunk = self.covariance / (np.maximum(self.variances, 0) + penalty)[:, None]
        standard = (vectors - self.mean) / self.scale
        scores: Floats = standard @ (self.axes @ shrunk) + self.bias
        return scores

    def predict(self, vectors: Floats, penalty: float) -> NDArray[np.int64]:
        """Return the class with the highest score, `(utterances,)`."""
        parts = np.array_split(vectors, math.ceil(len(vectors) / SCORED_AT_ONCE))
        return np.concatenate([self.scores(part, penalty).argmax(axis=1) for part in parts])


def probe_layers(
    train: Labelled, dev: Labelled, test: Labelled, cluster: NDArray[np.int64], classes: int
) -> tuple[LayerProbe, ...]:
    """Probe every hidden state; `cluster` numbers the cluster of every test utterance from 0."""
    return tuple(
        probe_state(state, train, dev, test, cluster, classes)
        for state in range(train.states.shape[1])
    )


def probe_state(
    state: int,
    train: Labelled,
    dev: Labelled,
    test: Labelled,
    cluster: NDArray[np.int64],
    classes: int,
) -> LayerProbe:
    """Fit on train, select the penalty on dev (the larger one of equals), measure on test."""
    ridge = Ridge(train.states[:, state].astype(np.float64), train.classes, classes)

    def correct_items(part: Labelled, penalty: float) -> NDArray[np.int64]:
        predicted = ridge.predict(part.states[:, state].astype(np.float64), penalty)
        correct: NDArray[np.int64] = (predicted == part.classes).astype(np.int64)
        return correct

    penalty = max(PENALTIES, key=lambda each: (correct_items(dev, each).sum(), each))
    correct = correct_items(test, penalty)
    return LayerProbe(
        state=state,
        value=round(float(correct.mean()), 6),
        interval_95=share_interval(correct, np.ones_like(correct), cluster),
        penalty=penalty,
        fitted_on=len(train.classes),
    )


def probe_trials(
    states: NDArray[np.float32],
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    same: NDArray[np.bool_],
) -> tuple[LayerProbe, ...]:
    """Return the equal error rate of every hidden state's cosine.

    `states` is `(utterances, states, width)`; `left` and `right` number the utterances of a
    trial. The mean over all utterances is subtracted first: it would dominate every cosine.
    """
    centred = states.astype(np.float64) - states.mean(axis=0, dtype=np.float64)
    lengths = np.linalg.norm(centred, axis=2, keepdims=True)
    directions = centred / np.maximum(lengths, 1e-12)
    probes = []
    for state in range(states.shape[1]):
        cosines = np.einsum("tw,tw->t", directions[left, state], directions[right, state])
        rate = equal_error_rate(error_rates(cosines, same))
        probes.append(LayerProbe(state=state, value=round(rate, 6)))
    return tuple(probes)


@torch.no_grad()
def pooled_states(
    upstream: AnyUpstream, inputs: Inputs, rows: Rows, batch_seconds: float, *, normalise: bool
) -> Embeddings:
    """Return the mean over the real frames of every hidden state, `(rows, states, width)`.

    With `normalise` frames are normalised first, as for a head with `normalise_states`.
    """
    device = next(upstream.buffers()).device
    loader = whole_utterances(inputs, rows, batch_seconds, prefetch=0)
    place = {int(row): number for number, row in enumerate(rows)}
    pooled = np.empty((len(rows), upstream.states, upstream.width), np.float32)
    for batch in shown_batches(loader, "hidden states"):
        moved = batch.to(device)
        states, lengths = upstream(moved.features, moved.lengths)
        states = normalised(states) if normalise else states
        means = torch.stack([mean_pool(state, lengths) for state in states], dim=1)
        require_finite_batch(means, batch.rows, inputs.dataset.key)
        pooled[[place[int(row)] for row in batch.rows]] = means.float().cpu().numpy()
    return pooled
