import numpy as np
import pytest
from numpy.typing import NDArray

from aalbert.train.evaluation.probes import (
    PENALTIES,
    Labelled,
    Ridge,
    probe_layers,
)


def examples(seed: int, utterances: int = 60) -> Labelled:
    """State 1 holds the class in its first number, state 0 only noise."""
    generator = np.random.default_rng(seed)
    classes = generator.integers(0, 3, utterances)
    states = generator.normal(size=(utterances, 2, 4)).astype(np.float32)
    states[:, 1, 0] = 10 * (classes == 0) + 5 * (classes == 1)
    states[:, 1, 1] = 7 * (classes == 2)
    return Labelled(states=states, classes=classes)


def solved_directly(
    vectors: NDArray[np.float64], classes: NDArray[np.int64], penalty: float
) -> NDArray[np.float64]:
    """The weights that minimise the penalised squares, by the normal equations as one system."""
    standard = (vectors - vectors.mean(0)) / vectors.std(0)
    stacked = np.vstack([standard, np.sqrt(penalty * len(vectors)) * np.eye(vectors.shape[1])])
    wanted = np.eye(3)[classes] - np.eye(3)[classes].mean(0)
    targets = np.vstack([wanted, np.zeros((vectors.shape[1], 3))])
    weights = np.linalg.lstsq(stacked, targets, rcond=None)[0]
    scores: NDArray[np.float64] = standard @ weights + np.eye(3)[classes].mean(0)
    return scores


@pytest.mark.parametrize("penalty", PENALTIES)
def test_ridge_solves_the_penalised_least_squares(penalty: float) -> None:
    part = examples(1)
    vectors = part.states[:, 1].astype(np.float64)
    ridge = Ridge(vectors, part.classes, 3)
    expected = solved_directly(vectors, part.classes, penalty)
    np.testing.assert_allclose(ridge.scores(vectors, penalty), expected, atol=1e-9)


def test_a_probe_finds_the_layer_that_holds_the_classes() -> None:
    test = examples(3, utterances=300)
    noise, signal = probe_layers(examples(1), examples(2), test, np.arange(300), 3)
    assert (noise.state, signal.state) == (0, 1)
    assert signal.value == 1.0
    assert noise.value < 0.45
    assert noise.interval_95 is not None
    assert noise.interval_95[0] < noise.value < noise.interval_95[1]


def test_the_penalty_is_chosen_on_dev_and_the_test_split_changes_nothing() -> None:
    train, dev = examples(1), examples(2)
    shuffled = Labelled(states=examples(3).states, classes=np.zeros(60, np.int64))
    chosen = [
        [probe.penalty for probe in probe_layers(train, dev, test, np.arange(60), 3)]
        for test in (examples(3), shuffled)
    ]
    assert chosen[0] == chosen[1]


def test_a_number_that_never_changes_does_no_harm() -> None:
    part = examples(1)
    part.states[:, :, 3] = 2.0
    assert probe_layers(part, part, part, np.arange(60), 3)[1].value == 1.0
