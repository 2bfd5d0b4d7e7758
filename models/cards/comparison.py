"""What the card of a model that compares utterances says of its scores and its threshold."""

from collections.abc import Mapping
from typing import Any

from aalbert.common.text import percent

COHORT = """\
The cosine of two embeddings is normalised ({normalisation}) by the {top:,} closest of a cohort of
{members:,}, of {speakers:,} speakers of the training part, whose names are in `config.json`.
"""
CALIBRATION = """\
Scores are natural log-likelihood ratios: a weighted sum of {measures}, fitted on {trials:,} trials
of the dev part as if {prior} of trials were of one speaker. With another share p, accept from
log((1 - p) / p) on.
"""
THRESHOLD = """
## Threshold

Two utterances whose score is at least {score:.4f} are taken to be of one speaker. The threshold was
chosen on {trials:,} trials of the dev part, so that both kinds of errors are as frequent there: it
missed {misses} of those of one speaker, and accepted {false_alarms} of those of two.
"""


def scores_in_words(document: Mapping[str, Any]) -> str:
    """Return how the scores of a model that compares are made; empty where they are cosines."""
    cohort, calibration = document["cohort"], document["calibration"]
    sentences = []
    if cohort is not None:
        sentences.append(
            COHORT.format(
                normalisation=cohort["normalisation"],
                top=cohort["top"],
                members=cohort["members"],
                speakers=len(cohort["speakers"]),
            )
        )
    if calibration is not None:
        sentences.append(
            CALIBRATION.format(
                measures=", ".join(calibration["weights"]),
                trials=calibration["trials"],
                prior=percent(calibration["target_prior"]),
            )
        )
    return "\n## Scores\n\n" + "\n".join(sentences) if sentences else ""


def threshold_in_words(threshold: Mapping[str, Any] | None) -> str:
    """Return how the threshold of a model that compares was chosen; empty without one."""
    if threshold is None:
        return ""
    return THRESHOLD.format(
        score=threshold["score"],
        trials=threshold["trials"],
        misses=percent(threshold["misses"]),
        false_alarms=percent(threshold["false_alarms"]),
    )
