"""The card of a measured model."""

from collections.abc import Sequence
from dataclasses import replace

from aalbert.models.cards.downstream import Score
from aalbert.train.downstream.config import DownstreamConfig
from aalbert.train.downstream.left_out import LeftOut
from aalbert.train.evaluation.evaluate import Evaluation

UNTRAINED = "the same head on random weights"


def scored_card(evaluation: Evaluation, evaluations: Sequence[Evaluation]) -> str:
    """Return the card of a run's model with its score; controls are among all `evaluations`."""
    return evaluation.measured.model.card(score_of(evaluation, evaluations))


def score_of(evaluation: Evaluation, evaluations: Sequence[Evaluation]) -> Score:
    """Return the metric of a run as its card has it, beside what is reached without training."""
    result = evaluation.result
    metric = result.metric
    baselines = dict(metric.baselines)
    for each in evaluations:
        if each.result.untrained and not result.untrained and are_twins(each, evaluation):
            baselines[UNTRAINED] = each.result.metric.value
    return Score(
        metric=metric.name,
        value=metric.value,
        interval_95=metric.interval_95,
        share=metric.share,
        split=result.split,
        tested=tested_in_words(result.counts, result.left_out),
        resampled=metric.resampled,
        baselines=baselines,
        probes=[(each.value, each.interval_95) for each in result.layer_probes],
    )


def are_twins(one: Evaluation, other: Evaluation) -> bool:
    """Return whether two runs differ at most in the weights of the upstream, and their seed."""
    return one.result.upstream == other.result.upstream and twin_settings(one) == twin_settings(
        other
    )


def twin_settings(evaluation: Evaluation) -> DownstreamConfig:
    """Return the settings that a control has in common with the run that it is for."""
    return replace(evaluation.measured.config, untrained=False, seed=0, prefetch=0)


def tested_in_words(counts: dict[str, int], left_out: LeftOut | None) -> str:
    """Return on how much a model was tested, and what of its split was left out."""
    utterances = f"{counts['utterances']:,} utterances"
    if left_out is not None and left_out.total:
        utterances += f" ({left_out.total:,} of {left_out.place} left out)"
    for name in ("trials", "frames"):
        if name in counts:
            return f"{counts[name]:,} {name} of {utterances}"
    return utterances
