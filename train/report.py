"""The report: one HTML file, tables and pictures inside, that asks for nothing from anywhere."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from aalbert.configuration import load_config
from aalbert.files import write_text
from aalbert.models.pretrained import PretrainedModel
from aalbert.shards.settings import SETTINGS_BY_KIND
from aalbert.train.configs import PretrainConfig
from aalbert.train.evaluate import Evaluation, Result
from aalbert.train.figures import (
    confusion_figure,
    curve_figure,
    layer_figure,
    reconstruction_figure,
    to_data_uri,
)
from aalbert.train.page import facts, note, page, percent, picture, section, table
from aalbert.train.run_folder import RunFolder


def write_reports(evaluations: Sequence[Evaluation]) -> None:
    """Write the report of every run; each compares all runs that were evaluated together."""
    results = [evaluation.result for evaluation in evaluations]
    for evaluation in evaluations:
        write_text(evaluation.run.report, report_page(evaluation, results))


def report_page(evaluation: Evaluation, results: Sequence[Result]) -> str:
    """Return the whole page for one run."""
    result = evaluation.result
    title = f"Speaker identification: {result.upstream_name}"
    sections = [
        headline(title, result),
        section("Result", comparison_table(results, result.run), chance_note(result)),
        section(
            "Who is taken for whom",
            picture(
                to_data_uri(confusion_figure(evaluation.confusion, evaluation.model.speakers)),
                "confusion matrix of the speakers",
            ),
            speaker_table(result),
        ),
        training_section(evaluation),
        pretraining_section(evaluation),
        section("Made with", settings_table(result)),
    ]
    return page(title, sections)


def headline(title: str, result: Result) -> str:
    """Return the first thing to read: the accuracy and how sure it is."""
    low, high = result.accuracy_interval_95
    return (
        f"<h1>{escape(title)}</h1>\n"
        f'<p class="figure">{percent(result.accuracy)}</p>\n'
        f"<p>of {result.utterances} utterances of the {escape(result.split)} split are given to "
        f"the right one of {result.speakers} speakers (95&nbsp;% interval {percent(low)} to "
        f"{percent(high)}, percentile bootstrap over utterances).</p>"
    )


def comparison_table(results: Sequence[Result], this_run: str) -> str:
    """Return one row per run that was evaluated together, the best first."""
    rows = [
        (
            [
                result.upstream_name,
                percent(result.accuracy),
                " to ".join(percent(bound) for bound in result.accuracy_interval_95),
                percent(result.top_5_accuracy),
                f"{result.upstream_parameters:,}",
                result.layers,
            ],
            result.run == this_run,
        )
        for result in sorted(results, key=lambda result: -result.accuracy)
    ]
    header = ["upstream (frozen)", "accuracy", "95 % interval", "top 5", "parameters", "layers"]
    return table(header, rows)


def chance_note(result: Result) -> str:
    """Say what guessing would give, and how the head was chosen."""
    return note(
        f"Guessing gives {percent(result.chance)}. The upstream is frozen; a linear head reads its "
        "frames averaged over time. The epoch was chosen on the dev split; only this evaluation "
        "reads the test split."
    )


def speaker_table(result: Result, limit: int = 20) -> str:
    """Return the speakers who are recognised least."""
    rows = [
        (
            [
                speaker.speaker,
                str(speaker.utterances),
                percent(speaker.accuracy),
                speaker.taken_for or "",
            ],
            False,
        )
        for speaker in result.per_speaker[:limit]
    ]
    header = ["speaker", "utterances", "accuracy", "most often taken for"]
    return table(header, rows) + note(
        f"The {len(rows)} least recognised of {len(result.per_speaker)}."
    )


def training_section(evaluation: Evaluation) -> str:
    """Return the curves of the head's training, and the layers it chose."""
    measurements = evaluation.run.read_metrics()
    losses = {"train_loss": "training", "dev_loss": "dev"}
    parts = [
        picture(
            to_data_uri(curve_figure(measurements, losses, "cross-entropy")),
            "loss of the head over training steps",
        )
    ]
    if evaluation.result.layer_weights:
        weights = layer_figure(evaluation.result.layer_weights)
        parts.append(picture(to_data_uri(weights), "weights of the hidden states in the mix"))
    return section("Training the head", *parts)


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
    dataset = evaluation.dataset
    features = dataset.features(int(dataset.rows([result.split])[0]), config.data.feature)
    return section(
        "Pretraining the upstream",
        picture(
            to_data_uri(curve_figure(run.read_metrics(), losses, "L1 over masked frames")),
            "reconstruction loss over training steps",
        ),
        picture(
            to_data_uri(reconstruction_figure(model, features, config.masking)),
            "a spectrogram, the same with masked frames, and its reconstruction",
        ),
    )


def settings_table(result: Result) -> str:
    """Return what is needed to make the result again."""
    values = {
        "task": result.task,
        "data": result.data,
        "data fingerprint": result.data_fingerprint,
        "upstream": result.upstream + (" (weights drawn anew)" if result.untrained else ""),
        "layers": result.layers,
        "head": f"mean over frames, linear, {result.head_parameters:,} parameters",
        "learning rate": f"{result.learning_rate:g}",
        "epochs": str(result.epochs),
        "seed": str(result.seed),
    }
    return facts(values)
