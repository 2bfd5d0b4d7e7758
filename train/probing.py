"""Layer probing: what a linear map can read from each hidden state, whatever the head chose.

A probe is ridge regression onto one-hot classes, which has a closed form: no learning rate, no
epochs, the same answer every time. It is fitted on the training split, its penalty is chosen on
dev, and only then the test split is looked at. It measures a layer, not the system.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aalbert.train.intervals import Interval, share_interval

# Relative to the mean variance of the standardised inputs, which is one, per utterance.
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class LayerProbe:
    """How well one hidden state tells the classes of the test split, and the penalty chosen."""

    state: int
    value: float
    interval_95: Interval
    penalty: float


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
