"""The parts of a report that look inside: where a run is weak, what its layers hold, its data."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from aalbert.common.configuration import load_config
from aalbert.models.pretrained import PretrainedModel
from aalbert.shards.format.feature_settings import SETTINGS_BY_KIND
from aalbert.shards.reading.dataset import Dataset
from aalbert.shards.views.info import describe
from aalbert.train.downstream.error_rates import error_rates
from aalbert.train.downstream.scoring import Decisions, Trials
from aalbert.train.evaluation.breakdown import Group, worst_classes
from aalbert.train.evaluation.evaluate import PROBE_UTTERANCES, Evaluation
from aalbert.train.evaluation.figures import (
    CLASSES_SHOWN,
    Example,
    confusion_figure,
    det_figure,
    examples_figure,
    plane_figure,
    probe_figure,
)
from aalbert.train.evaluation.probes import Embeddings, principal_plane
from aalbert.train.evaluation.tables import interval, percent
from aalbert.train.pretraining.config import PretrainConfig
from aalbert.train.pretraining.figure import reconstruction_figure
from aalbert.train.randomness import seed_of
from aalbert.train.report.figures import curve_figure, layer_figure, to_data_uri
from aalbert.train.report.page import facts, note, picture, section, table
from aalbert.train.run_folder import RunFolder

WORST_SHOWN = 15
PAIRS_SHOWN = 10
EXAMPLES_OF_A_KIND = 2
Names = dict[str, str]


def shown_names(dataset: Dataset) -> Names:
    """Return what to call speakers whose names the index knows, such as `A.J. Buckley`."""
    if "name" not in dataset.table.column_names:
        return {}
    pairs = zip(dataset.column("speaker"), dataset.column("name"), strict=True)
    return {who: f"{name.replace('_', ' ')} ({who})" for who, name in pairs if who and name}


def det_section(evaluations: Sequence[Evaluation]) -> str:
    """Return the DET curves of all runs that were evaluated together on trials."""
    curves = [
        (each.result.upstream_name, error_rates(outcome.scores, outcome.same))
        for each in evaluations
        if isinstance(outcome := each.measured.outcome, Trials)
    ]
    if not curves:
        return ""
    return section(
        "Misses against false alarms",
        picture(to_data_uri(det_figure(curves)), "DET curves of the runs"),
        note(
            "Detection error tradeoff (Martin et al. 1997): the axes are stretched so that normal "
            "scores give straight lines. The equal error rate is where a curve meets the diagonal."
        ),
    )


def weakness_section(evaluation: Evaluation) -> str:
    """Return where the run is weak: durations, genders, classes and their confusion."""
    result, outcome = evaluation.result, evaluation.measured.outcome
    parts = [
        group_table("duration", result.by_duration, result.metric.name),
        group_table("gender", result.by_gender, result.metric.name),
    ]
    if isinstance(outcome, Trials):
        parts.append(
            note(
                "A trial has the duration of its shorter utterance, and a gender when both "
                "speakers have the same."
            )
        )
    if isinstance(outcome, Decisions):
        parts += confusion_parts(evaluation, outcome)
    return section("Where it is weak", *parts)


def group_table(name: str, groups: Sequence[Group], metric: str) -> str:
    """Return the metric by group."""
    if not groups:
        return ""
    rows = [
        (
            [
                group.name,
                f"{group.items:,}",
                percent(group.value),
                interval(group.interval_95) if group.interval_95 else "",
            ],
            False,
        )
        for group in groups
    ]
    return table([name, "items", metric, "95 % interval"], rows)


def confusion_parts(evaluation: Evaluation, decisions: Decisions) -> list[str]:
    """Return a picture of the worst classes, and them and the commonest errors in tables."""
    result, names = evaluation.result, shown_names(evaluation.measured.dataset)
    chosen = worst_classes(decisions.confusion, CLASSES_SHOWN)
    labels = [names.get(name, name) for name in decisions.names]
    worst = [
        (
            [
                names.get(each.name, each.name),
                f"{each.items:,}",
                percent(each.accuracy),
                names.get(each.taken_for or "", each.taken_for or ""),
            ],
            False,
        )
        for each in result.per_class[:WORST_SHOWN]
    ]
    pairs = [
        (
            [
                f"{names.get(each.spoken, each.spoken)} taken for "
                f"{names.get(each.named, each.named)}",
                f"{each.items:,}",
                percent(each.share),
            ],
            False,
        )
        for each in result.most_confused[:PAIRS_SHOWN]
    ]
    return [
        picture(
            to_data_uri(confusion_figure(decisions.confusion, labels, chosen)),
            "confusion matrix of the classes that are recognised least",
        ),
        note(
            f"{len(chosen)} of {len(labels)} classes: those recognised least, and those they are "
            "most often taken for."
            if len(chosen) < len(labels)
            else f"All {len(labels)} classes."
        ),
        table(["least recognised", "items", "accuracy", "most often taken for"], worst),
        table(["commonest errors", "items", "share of its items"], pairs) if pairs else "",
    ]


def layers_section(evaluation: Evaluation) -> str:
    """Return what the head listens to, and what each hidden state holds on its own."""
    result = evaluation.result
    parts = []
    if result.layer_weights:
        weights = layer_figure(result.layer_weights)
        parts.append(picture(to_data_uri(weights), "weights of the hidden states in the mix"))
    if len(result.layer_probes) > 1:
        metric = result.metric
        figure = probe_figure(result.layer_probes, metric.name, metric.baselines)
        parts += [
            picture(to_data_uri(figure), "the metric of a probe on each hidden state"),
            note(probe_words(evaluation)),
        ]
    return section("Layers", *parts) if parts else ""


def probe_words(evaluation: Evaluation) -> str:
    """Say what the probes are."""
    if isinstance(evaluation.measured.outcome, Trials):
        return (
            "Probes of single layers: the cosine of the frames' mean, with nothing trained. They "
            "measure the layer; the result above is the head's."
        )
    return (
        "Probes of single layers: ridge regression on the frames' mean, fitted on at most "
        f"{PROBE_UTTERANCES:,} training utterances, its penalty chosen on dev. They measure the "
        "layer; the result above is the head's."
    )


def plane_section(evaluation: Evaluation) -> str:
    """Return the embeddings of the test utterances on a plane, coloured by speaker or class."""
    labels = embedding_labels(evaluation)
    state = heard_state(evaluation)
    if labels is None or len(state) < 3:
        return ""
    points, shares = principal_plane(state)
    return section(
        "Embeddings",
        picture(to_data_uri(plane_figure(points, shares, labels)), "embeddings on a plane"),
        note(
            "Every point is a test utterance: the mean over its frames of what the head reads, on "
            "the plane where these vary most (principal components; no label is used)."
        ),
    )


def embedding_labels(evaluation: Evaluation) -> list[str] | None:
    """Return the class, or the speaker, of the embedded utterances; None when they have none."""
    measured, rows = evaluation.measured, evaluation.embedded_rows
    names = shown_names(measured.dataset)
    if measured.class_of_row is not None and isinstance(measured.outcome, Decisions):
        found = [measured.outcome.names[measured.class_of_row[row]] for row in rows]
    else:
        column = measured.dataset.column("speaker")
        found = [column[row] or "" for row in rows]
    return [names.get(name, name) for name in found] if any(found) else None


def heard_state(evaluation: Evaluation) -> Embeddings:
    """Return the hidden state that the head reads, `(utterances, width)`: one, or the mix."""
    result, embeddings = evaluation.result, evaluation.embeddings
    if result.layer_weights:
        weights = np.array(result.layer_weights, np.float32)
        mixed: Embeddings = np.einsum("s,nsw->nw", weights, embeddings)
        return mixed
    if result.layers == "mean":
        mean: Embeddings = embeddings.mean(axis=1)
        return mean
    return embeddings[:, int(result.layers) if result.layers.isdigit() else -1]


def examples_section(evaluation: Evaluation) -> str:
    """Return spectrograms of a few utterances that were named right, and of a few wrong ones."""
    decisions, dataset = evaluation.measured.outcome, evaluation.measured.dataset
    if not isinstance(decisions, Decisions) or decisions.truth is None or decisions.named is None:
        return ""
    feature = str(evaluation.measured.model.upstream.config.features["kind"])
    generator = np.random.default_rng(seed_of("examples", evaluation.result.seed))
    names = shown_names(dataset)
    examples = []
    for right in (1, 0):
        found = np.flatnonzero(decisions.right == right)
        for place in generator.permutation(found)[:EXAMPLES_OF_A_KIND]:
            truth, named = (
                decisions.names[int(of[place])] for of in (decisions.truth, decisions.named)
            )
            row = int(decisions.rows[place])
            words = names.get(truth, truth)
            if not right:
                words += f", named {names.get(named, named)}"
            examples.append(Example(words, dataset.features(row, feature), bool(right)))
    shift_ms = dataset.manifest.features[feature].frame_shift_ms
    return section(
        "Examples",
        picture(
            to_data_uri(examples_figure(examples, shift_ms)),
            "spectrograms of utterances that were named right and wrong",
        ),
        note(f"The first seconds of test utterances, drawn by lot; the features are {feature}."),
    )


def training_section(evaluation: Evaluation) -> str:
    """Return the curves of the head's training."""
    measurements = evaluation.run.read_metrics()
    losses = {"train_loss": "training", "dev_loss": "dev"}
    if not any(name in row for row in measurements for name in losses):
        return ""
    figure = curve_figure(measurements, losses, "cross-entropy")
    return section(
        "Training the head", picture(to_data_uri(figure), "loss of the head over training steps")
    )


def pretraining_section(evaluation: Evaluation) -> str:
    """Return the curves and a reconstruction of the upstream's own training, if it had any."""
    result = evaluation.result
    run = RunFolder(Path(result.upstream).parent)
    if result.untrained or result.upstream in SETTINGS_BY_KIND:
        return ""
    if not run.metrics.is_file():
        return section("Pretraining the upstream", note(f"No pretraining run is at {run.path}."))
    config = load_config(PretrainConfig, file=run.config, environment={})
    losses = {"train_loss": "training", "validation_loss": "held out"}
    model = PretrainedModel.from_pretrained(run.path)
    dataset = evaluation.measured.dataset
    curves = curve_figure(run.read_metrics(), losses, "error over masked frames")
    parts = [picture(to_data_uri(curves), "reconstruction loss over training steps")]
    # A task's data need not hold the targets of pretraining.
    kinds = {config.data.feature, *config.objective.targets}
    if kinds <= dataset.manifest.features.keys():
        row = int(evaluation.embedded_rows[0])
        features = {kind: dataset.features(row, kind) for kind in kinds}
        caption = "a spectrogram, the same with masked frames, and its reconstruction"
        figure = reconstruction_figure(model, features, config.masking)
        parts.append(picture(to_data_uri(figure), caption))
    return section("Pretraining the upstream", *parts)


def data_section(evaluation: Evaluation) -> str:
    """Return the card of the dataset: what it holds, and how its features were made."""
    dataset = evaluation.measured.dataset
    document = describe(dataset.folder)
    splits = [
        (
            [
                name,
                f"{split['utterances']:,}",
                f"{split['hours']:,.2f}",
                f"{split['speakers']:,}",
            ],
            name == evaluation.result.split,
        )
        for name, split in document["splits"].items()
    ]
    values = {
        "corpus": document["corpus"],
        "place": evaluation.result.data,
        "fingerprint": evaluation.result.data_fingerprint,
        "inputs that were skipped": f"{document['skipped']:,}",
    }
    for name, feature in document["features"].items():
        settings = ", ".join(f"{key} {value}" for key, value in feature["settings"].items())
        values[f"feature {name}"] = f"{feature['dims']} numbers a frame; {settings}"
    return section(
        "Data", table(["split", "utterances", "hours", "speakers"], splits), facts(values)
    )
