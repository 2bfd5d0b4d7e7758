"""Logistic regression of few variables on many trials, by Newton's method to convergence."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aalbert.errors import DivergedError

Floats = NDArray[np.float64]

# Per standardised variable, relative to a mean loss. Without it the weights of trials that are
# separated without error would grow for ever; a greater one makes good systems too uncertain, since
# the mean loss of a system with few errors is itself small.
PENALTY = 1e-7
MOST_ITERATIONS = 200
# Of the gradient, whose terms are of the order of one.
TOLERANCE = 1e-10
# Of a loss, which is of the order of one.
ROUNDING = 1e-14


@dataclass(frozen=True, eq=False)
class Fitted:
    """The weights of variables as they were given, `(variables,)`, and the constant beside them."""

    weights: Floats
    offset: float


def fit_logistic(variables: Floats, targets: NDArray[np.bool_], prior: float) -> Fitted:
    """Return log-likelihood ratios as a linear function of variables `(trials, variables)`.

    Trials are weighted as if the share `prior` were targets (Brümmer & du Preez 2006):
    `p mean(log(1 + exp(-r - logit p)) of targets) + (1 - p) mean(log(1 + exp(r + logit p)) of
    others) + PENALTY / 2 sum(w^2)`, with weights `w` of variables of mean 0 and deviation 1; the
    constant has no penalty. The result is unique. Raises `DivergedError` should it not be reached.
    """
    mean, deviation = variables.mean(axis=0), variables.std(axis=0)
    # A variable that does not vary gets the weight 0.
    scale = np.where(deviation > 1e-12, deviation, np.inf)
    inputs = np.column_stack([(variables - mean) / scale, np.ones(len(variables))])
    signs = np.where(targets, 1.0, -1.0)
    importance = np.where(targets, prior / targets.sum(), (1 - prior) / (~targets).sum())
    penalty = np.append(np.full(variables.shape[1], PENALTY), 0.0)
    log_odds = math.log(prior / (1 - prior))

    def loss(weights: Floats) -> float:
        margins = signs * (inputs @ weights + log_odds)
        return float(importance @ np.logaddexp(0, -margins) + penalty @ weights**2 / 2)

    weights = np.zeros(inputs.shape[1])
    for _ in range(MOST_ITERATIONS):
        # The probability of the wrong side.
        wrong = np.exp(-np.logaddexp(0, signs * (inputs @ weights + log_odds)))
        gradient = penalty * weights - inputs.T @ (importance * signs * wrong)
        if np.abs(gradient).max() <= TOLERANCE:
            found: Floats = weights[:-1] / scale
            return Fitted(found, float(weights[-1] - found @ mean))
        curvature = importance * wrong * (1 - wrong)
        hessian = (inputs.T * curvature) @ inputs + np.diag(penalty)
        step = np.linalg.lstsq(hessian, gradient, rcond=None)[0]
        share, before = 1.0, loss(weights)
        # Halved until the loss falls by a part of what the gradient promises (Armijo 1966), as far
        # as rounding lets that be seen.
        promised = 1e-4 * float(gradient @ step)
        while loss(weights - share * step) > before - share * promised + ROUNDING:
            share /= 2
        weights = weights - share * step
    raise DivergedError(
        f"the calibration did not converge in {MOST_ITERATIONS} steps of Newton's method: use "
        "--set trials.calibration=none"
    )
