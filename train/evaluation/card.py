"""The card of a measured model."""

from collections.abc import Sequence

from aalbert.models.cards.downstream import Score
from aalbert.train.evaluation.evaluate import Evaluation
from aalbert.train.evaluation.result import Result

UNTRAINED = "the same head on random weights"
# What a control has in common with the run that it is for.
TWIN_FIELDS = ("upstream", "mode", "layers", "head", "frames_stacked", "context", "epochs")


def scored_card(evaluation: Evaluation, evaluations: Sequence[Evaluation]) -> str:
    """Return the card of a run's model with its score; controls are among all `evaluations`."""
    results = [each.result for each in evaluations]
    return evaluation.measured.model.card(score_of(evaluation.result, results))


def score_of(result: Result, results: Sequence[Result]) -> Score:
    """Return the metric of a result as its card has it, beside what is reached without training."""
    metric = result.metric
    baselines = dict(metric.baselines)
    for each in results:
        if each.untrained and not result.untrained and are_twins(each, result):
            baselines[UNTRAINED] = each.metric.value
    return Score(
        metric=metric.name,
        value=metric.value,
        interval_95=metric.interval_95,
        split=result.split,
        tested=tested_in_words(result.counts),
        resampled=metric.resampled,
        baselines=baselines,
    )


def are_twins(one: Result, other: Result) -> bool:
    """Return whether two results differ at most in the weights of the upstream, and its seed."""
    return all(getattr(one, name) == getattr(other, name) for name in TWIN_FIELDS)


def tested_in_words(counts: dict[str, int]) -> str:
    """Return on how much a model was tested."""
    utterances = f"{counts['utterances']:,} utterances"
    for name in ("trials", "frames"):
        if name in counts:
            return f"{counts[name]:,} {name} of {utterances}"
    return utterances
