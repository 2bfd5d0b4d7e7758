import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from aalbert.train.downstream.likelihood_ratios import (
    log_likelihood_ratio_cost,
    minimum_likelihood_ratio_cost,
)
from aalbert.train.downstream.logistic_regression import PENALTY, fit_logistic

Floats = NDArray[np.float64]


def random_trials(seed: int, trials: int = 400) -> tuple[Floats, NDArray[np.bool_]]:
    """Variables of very different size, two of which depend on each other."""
    generator = np.random.default_rng(seed)
    targets = generator.random(trials) < 0.3
    score = generator.normal(targets * 1.5, 1.0)
    quality = generator.normal(2.0, 0.3, trials)
    return np.column_stack([score, 100 * quality, 1e-3 * (score + quality)]), targets


def by_gradient_descent(
    variables: Floats, targets: NDArray[np.bool_], prior: float
) -> tuple[Floats, float]:
    """The minimum that PyTorch's optimiser finds, from the definition of the loss."""
    mean, deviation = variables.mean(axis=0), variables.std(axis=0)
    inputs, wanted = torch.tensor((variables - mean) / deviation), torch.tensor(targets)
    weights = torch.zeros(inputs.shape[1], dtype=torch.float64, requires_grad=True)
    offset = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [weights, offset], max_iter=5000, tolerance_grad=1e-12, tolerance_change=1e-16,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        log_odds = inputs @ weights + offset + math.log(prior / (1 - prior))
        losses = F.binary_cross_entropy_with_logits(log_odds, wanted.double(), reduction="none")
        loss = prior * losses[wanted].mean() + (1 - prior) * losses[~wanted].mean()
        loss = loss + PENALTY / 2 * (weights**2).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    for _ in range(20):
        optimiser.step(closure)  # type: ignore[no-untyped-call]
    found = weights.detach().numpy() / deviation
    return found, float(offset.item() - found @ mean)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("prior", [0.01, 0.05, 0.5])
def test_the_fit_is_the_minimum_that_another_solver_finds(seed: int, prior: float) -> None:
    variables, targets = random_trials(seed)
    fitted = fit_logistic(variables, targets, prior)
    weights, offset = by_gradient_descent(variables, targets, prior)
    ratios, expected = variables @ fitted.weights + fitted.offset, variables @ weights + offset
    np.testing.assert_allclose(ratios, expected, atol=1e-4)
    again = fit_logistic(variables, targets, prior)
    assert again.weights.tolist() == fitted.weights.tolist() and again.offset == fitted.offset


def test_trials_that_are_separated_have_finite_ratios() -> None:
    targets = np.arange(200) < 80
    for scores in (np.where(targets, 1.0, -1.0), np.arange(200.0)[::-1]):
        fitted = fit_logistic(scores[:, None], targets, 0.05)
        ratios = scores * fitted.weights[0] + fitted.offset
        assert ratios[targets].min() > ratios[~targets].max()
        assert np.abs(ratios).max() < 1000


def test_a_variable_that_does_not_vary_has_no_weight() -> None:
    variables, targets = random_trials(0)
    variables[:, 1] = 3.0
    fitted = fit_logistic(variables, targets, 0.05)
    alone = fit_logistic(variables[:, [0, 2]], targets, 0.05)
    assert fitted.weights[1] == 0
    np.testing.assert_allclose(fitted.weights[[0, 2]], alone.weights)


def test_scores_of_two_normal_distributions_become_their_log_likelihood_ratios() -> None:
    generator = np.random.default_rng(0)
    targets = np.arange(100_000) % 2 == 0
    # N(3, 2) against N(1, 2): the ratio is ((x - 1)^2 - (x - 3)^2) / 8 = x / 2 - 1.
    scores = generator.normal(np.where(targets, 3.0, 1.0), 2.0)
    fitted = fit_logistic(scores[:, None], targets, 0.5)
    assert fitted.weights[0] == pytest.approx(0.5, abs=0.01)
    assert fitted.offset == pytest.approx(-1, abs=0.02)
    ratios = scores * fitted.weights[0] + fitted.offset
    least = minimum_likelihood_ratio_cost(ratios, targets)
    assert log_likelihood_ratio_cost(ratios, targets) == pytest.approx(least, abs=2e-3)
    # What the trials' own proportion is has no influence.
    fewer = targets & (np.arange(len(targets)) % 10 == 0)
    chosen = fewer | ~targets
    rarer = fit_logistic(scores[chosen, None], targets[chosen], 0.5)
    assert rarer.offset == pytest.approx(-1, abs=0.06)


@pytest.mark.parametrize("seed", range(3))
def test_the_ratios_of_a_system_with_few_errors_are_calibrated(seed: int) -> None:
    generator = np.random.default_rng(seed)
    targets = np.arange(40_000) % 2 == 0
    # Deviations of 1 and means 4.65 apart: an equal error rate of 1 %.
    scores = generator.normal(np.where(targets, 4.65, 0.0), 1.0)
    fitted = fit_logistic(scores[:, None], targets, 0.05)
    assert fitted.weights[0] == pytest.approx(4.65, rel=0.08)
    ratios = scores * fitted.weights[0] + fitted.offset
    least = minimum_likelihood_ratio_cost(ratios, targets)
    assert log_likelihood_ratio_cost(ratios, targets) == pytest.approx(least, rel=0.1)
