"""Examples of a page: what a model took rightly, what wrongly, to be looked at and listened to."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from aalbert.common.text import figure, number, percent
from aalbert.shards.format.feature_settings import FeatureSettings
from aalbert.shards.reading.dataset import Dataset
from aalbert.train.downstream.decisions import Decisions
from aalbert.train.downstream.numbers import Numbers
from aalbert.train.downstream.outcomes import Outcome, Tallied
from aalbert.train.downstream.recognition import Recognised
from aalbert.train.downstream.scoring import Trials
from aalbert.train.evaluation.evaluate import Evaluation
from aalbert.train.report.charts import Gauge, Panel
from aalbert.train.report.spectrograms import (
    frequency_axis,
    gauge_of,
    limits_of,
    spectrogram_chart,
)

EXAMPLES_OF_A_KIND = 2
EXAMPLE_SECONDS = 4.0

Names = Mapping[str, str]
# Returns the address of the recording of a row, as far as its first frames go.
Recorder = Callable[[int, int, FeatureSettings], str]


@dataclass(frozen=True, kw_only=True)
class Example:
    """A row of the dataset with a title, whether it is wrong, and what else is said of it."""

    row: int
    title: str
    wrong: bool
    facts: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Examples:
    """The spectrograms of examples, how they were chosen, and what their colours stand for."""

    panels: Sequence[Panel]
    chosen: str
    gauge: Gauge
    feature: str
    seconds: float = EXAMPLE_SECONDS


def examples_of(
    evaluation: Evaluation, names: Names, recorder: Recorder | None = None
) -> Examples | None:
    """Return examples of what was tested, with their recordings if these can be read."""
    measured = evaluation.measured
    chosen, examples = choose(measured.outcome, names, measured.dataset)
    if not examples:
        return None
    feature = shown_feature(evaluation)
    settings = measured.dataset.manifest.features[feature]
    most = round(EXAMPLE_SECONDS * 1000 / settings.frame_shift_ms)
    frames = {
        each.row: np.array(measured.dataset.features(each.row, feature)[:most]) for each in examples
    }
    axis, limits = frequency_axis(settings), limits_of(*frames.values())
    panels = [
        Panel(
            title=each.title,
            chart=spectrogram_chart(
                frames[each.row], settings.frame_shift_ms, axis, limits, f"{feature} over time"
            ),
            audio=recorder(each.row, len(frames[each.row]), settings) if recorder else None,
            facts=each.facts,
            wrong=each.wrong,
        )
        for each in examples
    ]
    return Examples(
        panels=panels, chosen=chosen, gauge=gauge_of(settings.value_name, limits), feature=feature
    )


def shown_feature(evaluation: Evaluation) -> str:
    """Return the feature that spectrograms show: the one that the run reads, or the first."""
    feature = evaluation.measured.inputs.feature
    features = evaluation.measured.dataset.manifest.features
    return feature if feature in features else next(iter(features))


def choose(outcome: Outcome, names: Names, dataset: Dataset) -> tuple[str, list[Example]]:
    """Return how examples are chosen, in words, and these."""
    if isinstance(outcome, Trials):
        return (
            "The trials that the scores are most wrong about, and one of each kind that they are "
            "most right about; each with its two utterances",
            trial_examples(outcome, names, dataset),
        )
    if isinstance(outcome, Decisions) and not outcome.of_frames:
        return (
            "Of the utterances that were classified correctly and wrongly, those of the highest "
            "score of the predicted class",
            class_examples(outcome, names),
        )
    return (
        "The utterances with the best and with the worst figure of their own",
        best_and_worst(outcome),
    )


def class_examples(decisions: Decisions, names: Names) -> list[Example]:
    """Return the most certain utterances of those classified correctly, and of the others."""
    true, predicted, scores = decisions.true, decisions.predicted, decisions.score
    assert true is not None and predicted is not None and scores is not None
    order = np.argsort(-scores, kind="stable")
    examples = []
    for wrong in (False, True):
        found = [int(place) for place in order if bool(decisions.correct[place]) is not wrong]
        for place in found[:EXAMPLES_OF_A_KIND]:
            spoken, taken = (decisions.names[int(each[place])] for each in (true, predicted))
            name, other = names.get(spoken, spoken), names.get(taken, taken)
            title = f"wrong: {name}, predicted as {other}" if wrong else f"correct: {name}"
            examples.append(
                Example(
                    row=int(decisions.rows[place]),
                    title=title,
                    wrong=wrong,
                    facts=(f"score of the predicted class: {percent(float(scores[place]))}",),
                )
            )
    return examples


def best_and_worst(outcome: Tallied) -> list[Example]:
    """Return the utterances with the best and with the worst figure of their own."""
    measure = outcome.measure
    values = outcome.amounts / outcome.scored
    order = np.argsort(-values if measure.higher_is_better else values, kind="stable")
    count = min(EXAMPLES_OF_A_KIND, len(order) // 2)
    worst = order[::-1][:count]
    places = [*((place, False) for place in order[:count]), *((place, True) for place in worst)]
    return [
        Example(
            row=int(outcome.rows[place]),
            title=f"{'worst' if wrong else 'best'}: {measure.name} "
            f"{figure(float(values[place]), share=measure.share)}",
            wrong=wrong,
            facts=facts_of(outcome, int(place)),
        )
        for place, wrong in places
    ]


def facts_of(outcome: Tallied, place: int) -> tuple[str, ...]:
    """Return what was to be predicted of an utterance and what was, where that can be said."""
    if isinstance(outcome, Recognised):
        return (f"true: {outcome.true[place]}", f"recognised: {outcome.predicted[place]}")
    if isinstance(outcome, Numbers):
        return (
            f"true: {number(float(outcome.true[place]))}, "
            f"predicted: {number(float(outcome.predicted[place]))}",
        )
    return (f"{int(outcome.scored[place]):,} frames",)


def trial_examples(trials: Trials, names: Names, dataset: Dataset) -> list[Example]:
    """Return the trials of either kind that are scored worst and best, by their utterances."""
    examples = []
    speakers = dataset.column("speaker")
    for same in (True, False):
        found = np.flatnonzero(trials.same == same)
        rising = found[np.argsort(trials.scores[found], kind="stable")]
        if len(rising) < 2:
            continue
        worst, best = (rising[0], rising[-1]) if same else (rising[-1], rising[0])
        for trial, wrong in ((best, False), (worst, True)):
            kind = "one speaker" if same else "two speakers"
            score = number(float(trials.scores[trial]))
            for side, rows in (("first", trials.left), ("second", trials.right)):
                row = int(rows[trial])
                speaker = speakers[row] or "unknown"
                who = names.get(speaker, speaker)
                examples.append(
                    Example(
                        row=row,
                        title=f"{'worst' if wrong else 'best'} of {kind}, {side} utterance: {who}",
                        wrong=wrong,
                        facts=(f"score of the trial: {score}",),
                    )
                )
    return examples
