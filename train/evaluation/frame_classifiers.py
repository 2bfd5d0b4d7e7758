"""Classifiers of single frames for probes: multinomial logistic regression, or one hidden layer.

States are standardised per dimension by the training frames. Logistic regression has an L2
penalty and is fitted to its optimum, so there is no learning rate to choose and nothing is drawn.
"""

from copy import deepcopy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Added to the mean cross-entropy: penalty / 2 times the sum of the squared weights.
PENALTIES = (1e-2, 1e-3, 1e-4, 1e-5)
# On log-mel features twice as many change the accuracy by less than 0.1 points.
ITERATIONS = 50
# With a hidden layer.
EPOCHS, FRAMES_PER_STEP, LEARNING_RATE = 20, 256, 1e-3


@dataclass(frozen=True, eq=False)
class LabelledFrames:
    """One hidden state of frames, `(frames, width)`, and their classes `(frames,)`."""

    states: Tensor
    classes: Tensor

    def to(self, device: torch.device) -> "LabelledFrames":
        """Return the frames on a device."""
        return LabelledFrames(self.states.to(device), self.classes.to(device))


@dataclass(frozen=True, eq=False)
class FrameClassifier:
    """A network that scores frames by class, and the mean and the deviation that it expects."""

    network: nn.Module
    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, network: nn.Module, train: LabelledFrames) -> "FrameClassifier":
        """Return a classifier that standardises by the training frames."""
        # In float64: a number that never changes then has a deviation of exactly 0.
        states = train.states.double()
        deviation = states.std(dim=0, correction=0).clamp(min=1e-8)
        return cls(network.to(train.states.device), states.mean(dim=0).float(), deviation.float())

    def standardise(self, states: Tensor) -> Tensor:
        """Return states `(..., width)` with mean 0 and deviation 1 in every dimension."""
        return (states.float() - self.mean) / self.deviation

    def classify(self, states: Tensor) -> Tensor:
        """Return the class with the highest score of every frame, `(...)`."""
        with torch.no_grad():
            classes: Tensor = self.network(self.standardise(states)).argmax(dim=-1)
        return classes

    def accuracy(self, frames: LabelledFrames) -> float:
        """Return the share of frames that are classified correctly."""
        return float((self.classify(frames.states) == frames.classes).double().mean())


def fit_linear(
    train: LabelledFrames, dev: LabelledFrames, classes: int
) -> tuple[FrameClassifier, float]:
    """Fit a linear classifier; return it with its penalty.

    Penalties are tried from the strongest on, each from the weights of the one before, as long as
    the accuracy on dev rises.
    """
    network = nn.Linear(train.states.shape[-1], classes)
    nn.init.zeros_(network.weight)
    nn.init.zeros_(network.bias)
    classifier = FrameClassifier.of(network, train)
    inputs = classifier.standardise(train.states)
    best, best_accuracy, best_penalty = deepcopy(network.state_dict()), -1.0, 0.0
    for penalty in PENALTIES:
        minimise(network, inputs, train.classes, penalty)
        accuracy = classifier.accuracy(dev)
        if accuracy <= best_accuracy:
            break
        best, best_accuracy, best_penalty = deepcopy(network.state_dict()), accuracy, penalty
    network.load_state_dict(best)
    return classifier, best_penalty


def minimise(network: nn.Linear, inputs: Tensor, classes: Tensor, penalty: float) -> None:
    """Minimise the mean cross-entropy and `penalty / 2` times the sum of the squared weights.

    The objective is convex, and L-BFGS (Liu and Nocedal 1989) needs no learning rate.
    """
    optimiser = torch.optim.LBFGS(
        network.parameters(),
        max_iter=ITERATIONS,
        tolerance_grad=1e-6,
        line_search_fn="strong_wolfe",
    )

    def objective() -> float:
        optimiser.zero_grad()
        loss = F.cross_entropy(network(inputs), classes)
        loss = loss + penalty / 2 * network.weight.square().sum()
        torch.autograd.backward(loss)
        return float(loss.detach())

    optimiser.step(objective)  # type: ignore[no-untyped-call]


def fit_hidden(
    train: LabelledFrames, dev: LabelledFrames, classes: int, *, hidden: int, seed: int
) -> FrameClassifier:
    """Fit a classifier with one hidden layer, with Adam; keep its best epoch on dev.

    With 768 units it is the classifier of the Audio ALBERT paper, s3prl's `phone_1hidden`.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Linear(train.states.shape[-1], hidden), nn.ReLU(), nn.Linear(hidden, classes)
        )
        classifier = FrameClassifier.of(network, train)
        inputs = classifier.standardise(train.states)
        optimiser = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
        best, best_accuracy = deepcopy(network.state_dict()), -1.0
        for _ in range(EPOCHS):
            order = torch.randperm(len(inputs)).to(inputs.device)
            for chosen in torch.split(order, FRAMES_PER_STEP):
                optimiser.zero_grad()
                loss = F.cross_entropy(network(inputs[chosen]), train.classes[chosen])
                torch.autograd.backward(loss)
                optimiser.step()
            accuracy = classifier.accuracy(dev)
            if accuracy > best_accuracy:
                best, best_accuracy = deepcopy(network.state_dict()), accuracy
        network.load_state_dict(best)
    return classifier
