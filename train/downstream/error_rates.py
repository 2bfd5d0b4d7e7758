"""The errors of a detector that accepts or rejects trials by score: EER, minDCF, DET curve.

A target trial is one that should be accepted (the same speaker). Trials may have weights,
as the bootstrap needs them: a weight of two stands for the same trial twice.
"""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from aalbert.models.downstream import Threshold

# The operating point of NIST SRE 2008 that VoxCeleb1 is reported at (Nagrani et al. 2017).
TARGET_PRIOR = 0.01
# That, and the one of the VoxCeleb Speaker Recognition Challenges.
TARGET_PRIORS = (TARGET_PRIOR, 0.05)
MISS_COST = 1.0
FALSE_ALARM_COST = 1.0


@dataclass(frozen=True, eq=False)
class ErrorRates:
    """The error rates at every threshold, rising: nothing rejected first, everything last.

    At entry `n` the trials with the `n` lowest distinct scores are rejected.
    """

    misses: NDArray[np.float64]
    false_alarms: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RankedTrials:
    """Trials in the order of their scores, which is found once for many weights.

    `last_of_equal` has the places where thresholds may be: equal scores are accepted or rejected
    together.
    """

    order: NDArray[np.int64]
    targets: NDArray[np.bool_]
    last_of_equal: NDArray[np.int64]

    @classmethod
    def of(cls, scores: NDArray[np.float64], targets: NDArray[np.bool_]) -> "RankedTrials":
        """Return trials ranked; there must be some of both kinds."""
        order = np.argsort(scores, kind="stable")
        ranked = scores[order]
        last_of_equal = np.flatnonzero(np.append(ranked[1:] > ranked[:-1], True))
        return cls(order, targets[order], last_of_equal)

    def error_rates(self, weights: NDArray[np.float64]) -> ErrorRates:
        """Return misses and false alarms at every threshold, with the weight of every trial."""
        weight = weights[self.order]
        rejected_targets = np.cumsum(weight * self.targets)[self.last_of_equal]
        rejected_others = np.cumsum(weight * ~self.targets)[self.last_of_equal]
        misses = np.concatenate(([0.0], rejected_targets / rejected_targets[-1]))
        false_alarms = np.concatenate(([1.0], 1 - rejected_others / rejected_others[-1]))
        return ErrorRates(misses, np.maximum(false_alarms, 0.0))


def error_rates(scores: NDArray[np.float64], targets: NDArray[np.bool_]) -> ErrorRates:
    """Return misses and false alarms at every threshold that the scores of trials allow."""
    return RankedTrials.of(scores, targets).error_rates(np.ones(len(scores)))


def equal_error_rate(rates: ErrorRates) -> float:
    """Return the rate at which misses and false alarms are equal.

    Between the two thresholds where they cross, both are taken to change linearly. The gap
    starts at -1, so there is always a threshold before the crossing.
    """
    gap = rates.misses - rates.false_alarms
    after = int(np.argmax(gap >= 0))
    before = after - 1
    share = -gap[before] / (gap[after] - gap[before])
    return float(rates.misses[before] + share * (rates.misses[after] - rates.misses[before]))


def equal_error_threshold(scores: NDArray[np.float64], targets: NDArray[np.bool_]) -> Threshold:
    """Return the threshold at which misses and false alarms are closest, and both at it.

    It lies half-way between two scores, so that no trial stands on it.
    """
    rates = error_rates(scores, targets)
    rejected = int(np.argmin(np.abs(rates.misses - rates.false_alarms)))
    ranked = np.unique(scores)
    # Rejecting none or all needs a border beyond the scores.
    borders = np.concatenate(([ranked[0] - 1], (ranked[:-1] + ranked[1:]) / 2, [ranked[-1] + 1]))
    return Threshold(
        score=float(borders[rejected]),
        misses=float(rates.misses[rejected]),
        false_alarms=float(rates.false_alarms[rejected]),
        trials=len(scores),
    )


def detection_cost(rates: ErrorRates, target_prior: float = TARGET_PRIOR) -> NDArray[np.float64]:
    """Return the cost at every threshold, over that of a fixed decision for all trials.

    `(C_miss P_miss p + C_fa P_fa (1 - p)) / min(C_miss p, C_fa (1 - p))`
    (NIST 2018 Speaker Recognition Evaluation Plan, section 3.1).
    """
    costs = (
        MISS_COST * target_prior * rates.misses
        + FALSE_ALARM_COST * (1 - target_prior) * rates.false_alarms
    )
    fixed = min(MISS_COST * target_prior, FALSE_ALARM_COST * (1 - target_prior))
    relative: NDArray[np.float64] = costs / fixed
    return relative


def minimum_detection_cost(rates: ErrorRates, target_prior: float = TARGET_PRIOR) -> float:
    """Return minDCF, the least cost of any threshold."""
    return float(detection_cost(rates, target_prior).min())


def probit(rates: NDArray[np.float64], floor: float = 1e-4) -> NDArray[np.float64]:
    """Return rates on the axis of a DET curve, where normal scores give straight lines.

    (Martin et al. 1997.) Rates are clipped to `floor` and `1 - floor`.
    """
    normal = NormalDist()
    clipped = np.clip(rates, floor, 1 - floor)
    return np.array([normal.inv_cdf(float(rate)) for rate in clipped])
