from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from aalbert.train.evaluation import frame_classifiers
from aalbert.train.evaluation.frame_classifiers import (
    PENALTIES,
    LabelledFrames,
    fit_hidden,
    fit_linear,
    minimise,
)

Floats = NDArray[np.float64]


def examples(seed: int, frames: int = 300) -> LabelledFrames:
    """Three overlapping classes in five dimensions of different sizes, correlated."""
    generator = np.random.default_rng(seed)
    classes = generator.integers(0, 3, frames)
    states = generator.normal(size=(frames, 5)) + np.eye(3, 5)[classes]
    states[:, 3] += states[:, 0]
    states = states * [1.0, 10.0, 0.1, 1.0, 5.0] + 3
    return LabelledFrames(torch.tensor(states, dtype=torch.float32), torch.from_numpy(classes))


def exclusive_or(seed: int, frames: int = 400) -> LabelledFrames:
    """Two classes that no line separates."""
    states = torch.from_numpy(np.random.default_rng(seed).uniform(-1, 1, (frames, 2)))
    return LabelledFrames(states.float(), (states[:, 0] * states[:, 1] > 0).long())


def objective(
    weight: Floats, bias: Floats, inputs: Floats, classes: NDArray[np.int64], penalty: float
) -> tuple[float, Floats, Floats]:
    """The penalised mean cross-entropy, and its gradients, in the textbook's form."""
    scores = inputs @ weight.T + bias
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    true = np.eye(len(bias))[classes]
    value = -np.log((shares * true).sum(axis=1)).mean() + penalty / 2 * (weight**2).sum()
    errors = (shares - true) / len(classes)
    return float(value), errors.T @ inputs + penalty * weight, errors.sum(axis=0)


@pytest.mark.parametrize("penalty", PENALTIES)
def test_the_linear_fit_is_the_optimum_of_penalised_logistic_regression(penalty: float) -> None:
    part = examples(1)
    inputs = part.states.double().numpy()
    inputs = (inputs - inputs.mean(axis=0)) / inputs.std(axis=0)
    torch.manual_seed(0)
    network = nn.Linear(5, 3)
    minimise(network, torch.from_numpy(inputs).float(), part.classes, penalty)
    weight, bias = (each.detach().double().numpy() for each in (network.weight, network.bias))
    classes = part.classes.numpy()
    least, by_weight, by_bias = objective(weight, bias, inputs, classes, penalty)
    assert max(np.abs(by_weight).max(), np.abs(by_bias).max()) < 5e-4
    generator = np.random.default_rng(0)
    for _ in range(200):
        size = 10.0 ** generator.uniform(-2, 0)
        moved = weight + size * generator.normal(size=weight.shape)
        other, _, _ = objective(moved, bias + size * generator.normal(size=3), inputs, classes, 0)
        assert other + penalty / 2 * (moved**2).sum() > least


def test_classes_are_those_of_standardised_frames_whatever_the_size_of_a_dimension() -> None:
    train, dev = examples(1), examples(2)
    classifier, _ = fit_linear(train, dev, 3)
    scale, shift = torch.tensor([100.0, 0.01, 7.0, 1.0, 3.0]), torch.tensor([5.0, -3, 0, 100, 1])
    stretched = [LabelledFrames(p.states * scale + shift, p.classes) for p in (train, dev)]
    other, _ = fit_linear(stretched[0], stretched[1], 3)
    same = classifier.classify(dev.states) == other.classify(stretched[1].states)
    assert same.double().mean() > 0.99
    assert classifier.accuracy(dev) > 0.6


@pytest.mark.parametrize("frames", [80, 1000])
def test_the_penalty_is_the_one_before_the_accuracy_on_dev_stops_rising(frames: int) -> None:
    # With few frames in many dimensions, of which one holds the class, weak penalties fit noise.
    generator = torch.Generator().manual_seed(0)

    def noisy(frames: int) -> LabelledFrames:
        classes = torch.randint(2, (frames,), generator=generator)
        states = torch.randn(frames, 60, generator=generator)
        states[:, 0] += 2.0 * classes
        return LabelledFrames(states, classes)

    train, dev = noisy(frames), noisy(2000)
    classifier, penalty = fit_linear(train, dev, 2)
    accuracies = {}
    torch.manual_seed(0)
    for each in PENALTIES:
        network = nn.Linear(60, 2)
        minimise(network, classifier.standardise(train.states), train.classes, each)
        accuracies[each] = replace(classifier, network=network).accuracy(dev)
    place = PENALTIES.index(penalty)
    rising = [accuracies[each] for each in PENALTIES[: place + 1]]
    # From another start the same minimum is reached but for rounding: a frame or two of 2,000.
    assert rising == sorted(rising)
    assert rising[-1] == pytest.approx(classifier.accuracy(dev), abs=1e-3)
    assert all(accuracies[each] <= rising[-1] + 1e-3 for each in PENALTIES[place + 1 : place + 2])


def test_a_number_that_never_changes_does_no_harm() -> None:
    train, dev = examples(1), examples(2)
    expected = fit_linear(train, dev, 3)[0].accuracy(dev)
    for part in (train, dev):
        part.states[:, 2] = 0.3
    classifier, _ = fit_linear(train, dev, 3)
    assert classifier.accuracy(dev) > expected - 0.3
    assert all(weight.isfinite().all() for weight in classifier.network.state_dict().values())


def test_a_hidden_layer_finds_what_no_line_separates() -> None:
    train, dev = exclusive_or(1), exclusive_or(2)
    assert fit_linear(train, dev, 2)[0].accuracy(dev) < 0.7
    assert fit_hidden(train, dev, 2, hidden=256, seed=0).accuracy(dev) > 0.85


def test_the_fit_with_a_hidden_layer_is_a_function_of_its_seed() -> None:
    train, dev = exclusive_or(1), exclusive_or(2)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, again, other = (
        fit_hidden(train, dev, 2, hidden=8, seed=seed).network.state_dict() for seed in (1, 1, 2)
    )
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["0.weight"], other["0.weight"])
    assert torch.equal(torch.get_rng_state(), before)


def test_the_epoch_that_is_kept_is_the_best_one_on_dev(monkeypatch: pytest.MonkeyPatch) -> None:
    train = examples(1, frames=40)
    dev = LabelledFrames(examples(2).states, examples(3).classes)
    accuracies = []
    for epochs in range(1, 30):
        monkeypatch.setattr(frame_classifiers, "EPOCHS", epochs)
        classifier = fit_hidden(train, dev, 3, hidden=64, seed=0)
        accuracies.append(classifier.accuracy(dev))
    assert accuracies == sorted(accuracies)
