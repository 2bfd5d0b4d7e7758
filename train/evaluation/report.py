"""The report of an evaluation: one HTML file with the results, their intervals and diagnostics.

Its text is in `report/templates/evaluation.html`. A section is a block there and a function here
that returns the content of the block, or None where a run has none.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from aalbert.common.files import write_text
from aalbert.models.costs import REFERENCE_SECONDS
from aalbert.models.downstream_head import layer_words
from aalbert.models.pretrained import PretrainedModel
from aalbert.shards.format.feature_settings import SETTINGS_BY_KIND
from aalbert.shards.reading.dataset import Dataset
from aalbert.shards.views.info import describe
from aalbert.train.downstream.decisions import Decisions
from aalbert.train.downstream.error_rates import TARGET_PRIORS, error_rates
from aalbert.train.downstream.likelihood_ratios import bayes_threshold, rates_at
from aalbert.train.downstream.numbers import Numbers
from aalbert.train.downstream.outcomes import Outcome
from aalbert.train.downstream.recognition import Recognised
from aalbert.train.downstream.scoring import Trials
from aalbert.train.downstream.tasks import TASKS
from aalbert.train.downstream.waves import WaveCorpus
from aalbert.train.evaluation.breakdown import worst_classes
from aalbert.train.evaluation.card import scored_card
from aalbert.train.evaluation.comparison import Comparison
from aalbert.train.evaluation.cost_charts import cost_charts, result_chart
from aalbert.train.evaluation.costs import cost_rows
from aalbert.train.evaluation.det_chart import DetCurve, det_chart
from aalbert.train.evaluation.embedded_points import embedded_points
from aalbert.train.evaluation.embedding_charts import embedding_charts
from aalbert.train.evaluation.embedding_planes import FEWEST_POINTS, embedding_planes
from aalbert.train.evaluation.evaluate import PROBE_UTTERANCES, Evaluation
from aalbert.train.evaluation.examples import examples_of
from aalbert.train.evaluation.figures import (
    CLASSES_SHOWN,
    MOST_POINTS,
    confusion_chart,
    scatter_chart,
)
from aalbert.train.evaluation.frame_probes import PROBE_FRAMES
from aalbert.train.evaluation.probe_chart import probe_chart
from aalbert.train.evaluation.recordings import open_recordings, recording_uri
from aalbert.train.evaluation.result import Result
from aalbert.train.evaluation.tables import (
    best_first,
    comparison_rows,
    comparison_title,
    result_rows,
    run_names,
    setting_rows,
)
from aalbert.train.pretraining.config import PretrainConfig
from aalbert.train.pretraining.figure import reconstruction_panels
from aalbert.train.report.charts import Chart
from aalbert.train.report.curves import curve_chart, layer_chart, loss_chart
from aalbert.train.report.page import render_page
from aalbert.train.run_folder import RunFolder

WEAKEST_SHOWN = 15
Names = dict[str, str]


@dataclass(frozen=True)
class Words:
    """The words for a class, for several, for the items that are counted, those of a class."""

    kind: str
    kinds: str
    items: str
    of_a_kind: str
    error: str = "error"


def write_reports(
    evaluations: Sequence[Evaluation],
    comparisons: Sequence[Comparison],
    recordings: WaveCorpus | None = None,
) -> None:
    """Write the report of every run, and the comparison of several with the first one.

    The comparison is a page in the first run's folder, which stays when a run is evaluated alone.
    The score of a run goes into the card of its model too, but not that on a further list of
    trials. With the corpus of the `recordings` the examples of a report can be listened to.
    """
    for evaluation in evaluations:
        folder, page = evaluation.measured.folder, report_page(evaluation, recordings)
        with folder.writing():
            write_text(folder.report, page)
            if folder.path == evaluation.run.path:
                write_text(folder.card, scored_card(evaluation, evaluations))
    if comparisons:
        folder, page = evaluations[0].measured.folder, comparison_page(evaluations, comparisons)
        with folder.writing():
            write_text(folder.comparison, page)


def comparison_page(evaluations: Sequence[Evaluation], comparisons: Sequence[Comparison]) -> str:
    """Return the page that compares runs with the first one."""
    first, results = evaluations[0], [each.result for each in evaluations]
    names = run_names(result.run for result in results)
    too_short = {
        names[each.run]: count for each in results if (count := each.counts.get("too_short"))
    }
    return render_page(
        "comparison.html",
        title=f"{TASKS[first.result.task].title}: {len(results)} runs",
        result=first.result,
        results=result_rows(results),
        position=[each.run for each in best_first(results)].index(first.result.run),
        comparisons=comparison_rows(comparisons),
        differences=comparison_title(comparisons),
        too_short_runs=too_short,
        result_chart=result_chart(results),
        costs=cost_rows(results),
        cost_charts=cost_charts(results),
        reference_seconds=REFERENCE_SECONDS,
        layer_probes=layer_probes(results),
        det_curves=det_curves(evaluations),
        data=describe(first.measured.dataset.origin),
        place=first.result.data,
        settings=setting_rows(results),
    )


def report_page(evaluation: Evaluation, recordings: WaveCorpus | None = None) -> str:
    """Return the whole page for one run, with the recordings of its examples from a corpus."""
    result, measured = evaluation.result, evaluation.measured
    names = shown_names(measured.dataset)
    task = TASKS[result.task]
    recorder = None
    if recordings is not None:
        waves = open_recordings(measured.dataset, recordings, evaluation.run)
        recorder = partial(recording_uri, waves)
    weak = [each for each in result.per_class if each.accuracy < 1]
    return render_page(
        "evaluation.html",
        run_name=run_names([result.run])[result.run],
        title=f"{task.title}: {result.upstream_name}",
        task_title=task.title,
        result=result,
        results=result_rows([result]),
        published=task.benchmark.figures if task.benchmark else None,
        comparability=task.benchmark.comparability(result.counts) if task.benchmark else None,
        det_curves=det_curves([evaluation]),
        of_trials=isinstance(measured.outcome, Trials),
        cohort=measured.model.cohort and measured.model.cohort.settings,
        calibration=measured.model.calibration,
        words=words_for(measured.outcome),
        confusion=confusion(evaluation, names),
        weakest=weak[:WEAKEST_SHOWN],
        all_right=len(result.per_class) - len(weak),
        drawn_points=MOST_POINTS,
        scatter=scatter(evaluation),
        names=names,
        layer_weights=layer_weights(result),
        layer_probes=layer_probes([result]),
        probe_utterances=PROBE_UTTERANCES,
        probe_frames=PROBE_FRAMES,
        of_frames=measured.frame_labels is not None,
        embeddings=embeddings(evaluation, names),
        examples=examples_of(evaluation, names, recorder),
        has_recordings=recorder is not None,
        head_losses=head_losses(evaluation),
        pretraining=pretraining(evaluation),
        data=describe(measured.dataset.origin),
        layers=layer_words(result.layers),
    )


def shown_names(dataset: Dataset) -> Names:
    """Return the displayed names of the speakers that the index names, as `A.J. Buckley (id1)`."""
    if "name" not in dataset.table.column_names:
        return {}
    pairs = zip(dataset.column("speaker"), dataset.column("name"), strict=True)
    return {who: f"{name.replace('_', ' ')} ({who})" for who, name in pairs if who and name}


def det_curves(evaluations: Sequence[Evaluation]) -> Chart | None:
    """Return the DET curves of all runs that were evaluated together on trials."""
    names = run_names(each.result.run for each in evaluations)
    # The colours of runs are those of the other charts.
    places = {
        result.run: place
        for place, result in enumerate(best_first([each.result for each in evaluations]))
    }
    curves = [
        det_curve(names[each.result.run], outcome)
        for each in sorted(evaluations, key=lambda each: places[each.result.run])
        if isinstance(outcome := each.measured.outcome, Trials)
    ]
    return det_chart(curves) if curves else None


def det_curve(name: str, trials: Trials) -> DetCurve:
    """Return the DET curve of trials, with actual operating points if they are calibrated."""
    scores, same = trials.scores, trials.same
    thresholds = {prior: bayes_threshold(prior) for prior in TARGET_PRIORS if trials.calibrated}
    return DetCurve(
        name=name,
        rates=error_rates(scores, same),
        actual={prior: rates_at(scores, same, each) for prior, each in thresholds.items()},
    )


def words_for(outcome: Outcome) -> Words:
    """Return the words for what an outcome counts."""
    if isinstance(outcome, Recognised):
        return Words("phone", "phones", "phones", "occurrences", "substitution")
    if isinstance(outcome, Trials):
        return Words("class", "classes", "trials", "trials")
    of_frames = isinstance(outcome, Decisions) and outcome.of_frames
    items = "frames" if of_frames else "utterances"
    return Words("class", "classes", items, items)


def confusion(evaluation: Evaluation, names: Names) -> dict[str, Any] | None:
    """Return the confusion matrix of the least accurate classes, their number and that of all."""
    decisions = evaluation.measured.outcome
    if not isinstance(decisions, Decisions | Recognised):
        return None
    chosen = worst_classes(decisions.confusion, CLASSES_SHOWN)
    labels = [names.get(name, name) for name in decisions.names]
    kind = words_for(decisions).kind
    chart = confusion_chart(decisions.confusion, labels, chosen, kind)
    return {"chart": chart, "shown": len(chosen), "classes": len(labels)}


def scatter(evaluation: Evaluation) -> Chart | None:
    """Return a figure of predicted numbers over true ones."""
    numbers = evaluation.measured.outcome
    if not isinstance(numbers, Numbers):
        return None
    column = evaluation.measured.config.labels.column
    return scatter_chart(numbers.true, numbers.predicted, column)


def layer_weights(result: Result) -> Chart | None:
    """Return a figure of the weight of each hidden state in the head's mix."""
    return layer_chart(result.layer_weights) if result.layer_weights else None


def layer_probes(results: Sequence[Result]) -> Chart | None:
    """Return a chart of the probes of runs, if one of them has several hidden states."""
    if all(len(each.layer_probes) < 2 for each in results):
        return None
    names, metric = run_names(each.run for each in results), results[0].metric
    # The colours of runs are the same in all charts of a page.
    ordered = best_first(results)
    probes = {names[each.run]: each.layer_probes for each in ordered if each.layer_probes}
    return probe_chart(probes, metric.name, metric.baselines)


def embeddings(evaluation: Evaluation, names: Names) -> dict[str, Any] | None:
    """Return the embeddings of what was tested on planes, coloured by class or speaker."""
    points = embedded_points(evaluation)
    if len(points.labels) < FEWEST_POINTS:
        return None
    labels = [names.get(label, label) for label in points.labels]
    planes = embedding_planes(points.vectors, labels, evaluation.result.seed)
    return {
        "charts": embedding_charts(planes),
        "of": points.items,
        "coloured_by": points.coloured_by,
        "shown": len(planes.labels),
        "drawn_from": planes.all_points,
        "labels_shown": len(set(planes.labels)),
        "labels": planes.all_labels,
    }


def head_losses(evaluation: Evaluation) -> Chart | None:
    """Return the loss curves of the head's training."""
    measurements = evaluation.run.read_metrics()
    losses = {"train_loss": "training", "dev_loss": "dev"}
    if not any(name in row for row in measurements for name in losses):
        return None
    return curve_chart(measurements, losses, loss_name(evaluation), smooth="train_loss")


def loss_name(evaluation: Evaluation) -> str:
    """Return what the loss of a head is."""
    outcome, config = evaluation.measured.outcome, evaluation.measured.config
    if isinstance(outcome, Numbers):
        error = {"l1": "absolute error", "mse": "squared error"}[config.regression.loss]
        return f"{error}, standardised"
    return "CTC loss a phone" if isinstance(outcome, Recognised) else "cross-entropy"


def pretraining(evaluation: Evaluation) -> dict[str, Any] | None:
    """Return the loss curves and a reconstruction of the upstream's pretraining, if it had any.

    The curves are None where its run no longer exists.
    """
    result = evaluation.result
    run = RunFolder(Path(result.upstream).parent)
    if result.untrained or result.upstream_software or result.upstream in SETTINGS_BY_KIND:
        return None
    if not run.metrics.is_file():
        return {"folder": run.path, "losses": None, "reconstruction": None}
    losses = loss_chart(run.read_metrics(), result.upstream_training["trivial_predictors"])
    return {
        "folder": run.path,
        "losses": losses,
        "reconstruction": reconstruction(evaluation, run),
    }


def reconstruction(evaluation: Evaluation, pretraining_run: RunFolder) -> dict[str, Any] | None:
    """Return an utterance and its reconstruction; None if the data lacks a target's feature."""
    config = pretraining_run.read_config(PretrainConfig)
    dataset = evaluation.measured.dataset
    # A task's data need not hold the targets of pretraining.
    kinds = {config.data.feature, *config.objective.targets}
    if not kinds <= dataset.manifest.features.keys():
        return None
    row = int(evaluation.embedded_rows[0])
    features = {kind: dataset.features(row, kind) for kind in kinds}
    model = PretrainedModel.from_pretrained(pretraining_run.path)
    panels, gauge = reconstruction_panels(model, features, config.masking)
    return {"panels": panels, "gauge": gauge}
