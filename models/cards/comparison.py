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
log((1 - p) / p) on. The trials are of {speakers:,} speakers{trained}.
"""
KNOWN = """\
: the head was trained on {known}, whom it separates better than others, so that scores of other
speakers are too certain\
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
                speakers=calibration["speakers"],
                trained=trained_in_words(document),
            )
        )
    return "\n## Scores\n\n" + "\n".join(sentences) if sentences else ""


def trained_in_words(document: Mapping[str, Any]) -> str:
    """Return whether a trained head knows the speakers of its calibration; empty if none is."""
    if document["head"]["classifier"] == "none":
        return ""
    known, speakers = (document["calibration"][name] for name in ("trained_speakers", "speakers"))
    if known == 0:
        return ", on none of whom the head was trained"
    return KNOWN.format(known="all of them" if known == speakers else f"{known:,} of them")


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
