"""How good scores are as log-likelihood ratios: actDCF at Bayes thresholds, Cllr and min Cllr.

A score is the natural logarithm of how much more probable a trial is if one speaker has both
utterances. Then a prior and the costs of errors give the threshold, without any more data.
"""

import math

import numpy as np
from numpy.typing import NDArray

from aalbert.train.downstream.error_rates import (
    FALSE_ALARM_COST,
    MISS_COST,
    TARGET_PRIOR,
    ErrorRates,
    detection_cost,
)

Floats = NDArray[np.float64]


def bayes_threshold(target_prior: float) -> float:
    """Return the log-likelihood ratio from which accepting costs less than rejecting.

    `log(C_fa (1 - p) / (C_miss p))` (Brümmer & du Preez 2006, Computer Speech & Language 20).
    """
    return math.log(FALSE_ALARM_COST * (1 - target_prior) / (MISS_COST * target_prior))


def rates_at(ratios: Floats, targets: NDArray[np.bool_], threshold: float) -> ErrorRates:
    """Return the misses and false alarms of accepting all from a threshold on, each `(1,)`."""
    accepted = ratios >= threshold
    misses, false_alarms = np.mean(~accepted[targets]), np.mean(accepted[~targets])
    return ErrorRates(np.array([misses]), np.array([false_alarms]))


def actual_detection_cost(
    ratios: Floats, targets: NDArray[np.bool_], target_prior: float = TARGET_PRIOR
) -> float:
    """Return actDCF: the cost at the Bayes threshold, over that of a fixed decision for all trials.

    It is minDCF where scores are calibrated, and higher where they are not (NIST 2018 Speaker
    Recognition Evaluation Plan, section 3.1).
    """
    rates = rates_at(ratios, targets, bayes_threshold(target_prior))
    return float(detection_cost(rates, target_prior)[0])


def log_likelihood_ratio_cost(ratios: Floats, targets: NDArray[np.bool_]) -> float:
    """Return Cllr, the cost of log-likelihood ratios over all priors, in bits.

    `(mean(log2(1 + exp(-r)) of targets) + mean(log2(1 + exp(r)) of others)) / 2` (Brümmer & du
    Preez 2006); ratios of 0, which say nothing, have 1.
    """
    of_targets = np.logaddexp(0, -ratios[targets]).mean()
    of_others = np.logaddexp(0, ratios[~targets]).mean()
    return float((of_targets + of_others) / (2 * math.log(2)))


def minimum_likelihood_ratio_cost(scores: Floats, targets: NDArray[np.bool_]) -> float:
    """Return min Cllr, the least Cllr of any non-decreasing function of the scores.

    The function is found by pooling adjacent violators (Brümmer & du Preez 2006).
    """
    wanted, others = pooled_counts(scores, targets)
    wanted, others = wanted / wanted.sum(), others / others.sum()
    # A block of one kind alone has an infinite ratio of the right sign, which costs nothing.
    mixed = (wanted > 0) & (others > 0)
    ratios = np.log(wanted[mixed] / others[mixed])
    of_targets = (wanted[mixed] * np.logaddexp(0, -ratios)).sum()
    of_others = (others[mixed] * np.logaddexp(0, ratios)).sum()
    return float((of_targets + of_others) / (2 * math.log(2)))


def pooled_counts(scores: Floats, targets: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Return the numbers of targets and of others in blocks of neighbouring scores.

    Equal scores are in one block, and the share of targets rises from block to block: adjacent
    violators are pooled (Ayer et al. 1955).
    """
    _, place = np.unique(scores, return_inverse=True)
    own_targets = np.bincount(place, weights=targets)
    own_others = np.bincount(place, weights=~targets)
    wanted: list[float] = []
    others: list[float] = []
    for target_count, other_count in zip(own_targets.tolist(), own_others.tolist(), strict=True):
        while wanted and wanted[-1] * other_count >= target_count * others[-1]:
            target_count += wanted.pop()
            other_count += others.pop()
        wanted.append(target_count)
        others.append(other_count)
    return np.array(wanted), np.array(others)
