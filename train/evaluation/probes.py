"""Layer probing: what can be read from each hidden state, whatever the head chose.

For classes a probe is ridge regression onto one-hot classes, which has a closed form: no learning
rate, no epochs, the same answer every time. It is fitted on the training split, its penalty is
chosen on dev, and only then the test split is looked at. For trials a probe is the cosine of the
averaged states, with nothing to fit. Both measure a layer, not the system.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from aalbert.models.pooling import mean_pool
from aalbert.models.upstream import Upstream
from aalbert.shards.loading.order import Rows
from aalbert.shards.reading.dataset import Dataset
from aalbert.train.downstream.error_rates import equal_error_rate, error_rates
from aalbert.train.downstream.scoring import whole_utterances
from aalbert.train.evaluation.significance import Interval, share_interval

# Relative to the mean variance of the standardised inputs, which is one, per utterance.
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
Floats = NDArray[np.float64]
Embeddings = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class LayerProbe:
    """The task's metric by one hidden state alone; of classes with interval and penalty."""

    state: int
    value: float
    interval_95: Interval | None = None
    penalty: float | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Labelled:
    """Pooled hidden states `(utterances, states, width)` and the class of every utterance."""

    states: NDArray[np.float32]
    classes: NDArray[np.int64]


class Ridge:
    """Ridge regression of one-hot classes on standardised vectors, for any penalty.

    The eigenvectors of the inputs' covariance are found once; a penalty then costs a product.
    """

    def __init__(self, vectors: Floats, classes: NDArray[np.int64], number: int) -> None:
        self.mean = vectors.mean(axis=0)
        self.scale = np.maximum(vectors.std(axis=0), 1e-8)
        standard = (vectors - self.mean) / self.scale
        wanted = np.eye(number)[classes]
        self.bias = wanted.mean(axis=0)
        self.variances, self.axes = np.linalg.eigh(standard.T @ standard / len(standard))
        self.covariance = self.axes.T @ (standard.T @ (wanted - self.bias)) / len(standard)

    def scores(self, vectors: Floats, penalty: float) -> Floats:
        """Return the score of every class, `(utterances, classes)`."""
        shrunk = self.covariance / (np.maximum(self.variances, 0) + penalty)[:, None]
        standard = (vectors - self.mean) / self.scale
        scores: Floats = standard @ (self.axes @ shrunk) + self.bias
        return scores


def probe_layers(
    train: Labelled, dev: Labelled, test: Labelled, cluster: NDArray[np.int64], classes: int
) -> tuple[LayerProbe, ...]:
    """Probe every hidden state; `cluster` numbers what the test utterances are resampled by."""
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
    """Fit on train, choose the penalty on dev (the larger one of equals), measure on test."""
    inputs = {
        name: part.states[:, state].astype(np.float64)
        for name, part in (("train", train), ("dev", dev), ("test", test))
    }
    ridge = Ridge(inputs["train"], train.classes, classes)

    def right(name: str, part: Labelled, penalty: float) -> NDArray[np.int64]:
        named = ridge.scores(inputs[name], penalty).argmax(axis=1)
        outcomes: NDArray[np.int64] = (named == part.classes).astype(np.int64)
        return outcomes

    penalty = max(PENALTIES, key=lambda each: (right("dev", dev, each).sum(), each))
    outcomes = right("test", test, penalty)
    return LayerProbe(
        state=state,
        value=round(float(outcomes.mean()), 6),
        interval_95=share_interval(outcomes, np.ones_like(outcomes), cluster),
        penalty=penalty,
    )


def probe_trials(
    states: NDArray[np.float32],
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    same: NDArray[np.bool_],
) -> tuple[LayerProbe, ...]:
    """Return the equal error rate of every hidden state's cosine.

    `states` is `(utterances, states, width)`; `left` and `right` number the utterances of a
    trial. The mean over all utterances is taken off first, or it is most of every cosine.
    """
    centred = states.astype(np.float64) - states.mean(axis=0, dtype=np.float64)
    lengths = np.linalg.norm(centred, axis=2, keepdims=True)
    directions = centred / np.maximum(lengths, 1e-12)
    return tuple(
        LayerProbe(
            state=state,
            value=round(equal_error_rate(error_rates(cosines(part, left, right), same)), 6),
        )
        for state, part in enumerate(directions.swapaxes(0, 1))
    )


def cosines(directions: Floats, left: NDArray[np.int64], right: NDArray[np.int64]) -> Floats:
    """Return the cosine of pairs of unit vectors `(utterances, width)`."""
    products: Floats = np.einsum("tw,tw->t", directions[left], directions[right])
    return products


@torch.no_grad()
def pooled_states(
    upstream: Upstream, dataset: Dataset, rows: Rows, batch_seconds: float
) -> Embeddings:
    """Return the mean over the real frames of every hidden state, `(rows, states, width)`."""
    feature = str(upstream.config.features["kind"])
    device = next(upstream.buffers()).device
    loader = whole_utterances(dataset, rows, feature, batch_seconds, prefetch=0)
    place = {int(row): number for number, row in enumerate(rows)}
    pooled = np.empty((len(rows), upstream.states, upstream.width), np.float32)
    for batch in loader:
        moved = batch.to(device)
        states, lengths = upstream(moved.features, moved.lengths)
        means = torch.stack([mean_pool(state, lengths) for state in states], dim=1)
        pooled[[place[int(row)] for row in batch.rows]] = means.float().cpu().numpy()
    return pooled


def principal_plane(vectors: Embeddings) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """Return vectors `(n, width)` on the plane where they vary most, and what share it shows.

    Principal component analysis: no label is used, so classes that lie apart in the picture
    lie apart in the vectors. The shares are those of the whole variance, one per axis.
    """
    centred = np.asarray(vectors, np.float64) - vectors.mean(axis=0, dtype=np.float64)
    left, strengths, _ = np.linalg.svd(centred, full_matrices=False)
    total = float((strengths**2).sum()) or 1.0
    shares = strengths[:2] ** 2 / total
    return left[:, :2] * strengths[:2], (float(shares[0]), float(shares[1]))
