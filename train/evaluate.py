"""`evaluate`: how well finished runs tell the speakers of the test split, with intervals."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from aalbert.configuration import load_config
from aalbert.errors import ConfigError
from aalbert.files import write_json
from aalbert.models.checkpoint import EXPORT_FOLDER
from aalbert.models.classifier import SpeakerClassifier
from aalbert.models.upstream import count_parameters
from aalbert.shards.dataset import Dataset
from aalbert.shards.settings import SETTINGS_BY_KIND
from aalbert.train.configs import DownstreamConfig
from aalbert.train.downstream import TASK
from aalbert.train.identification import (
    Scores,
    bootstrap_interval,
    evaluation_loader,
    name_classes,
    score,
)
from aalbert.train.run_folder import RunFolder, lasting_place, open_data

TOP = 5


@dataclass(frozen=True, kw_only=True)
class SpeakerResult:
    """One speaker's utterances, how many were named right, and whom the rest were taken for."""

    speaker: str
    utterances: int
    accuracy: float
    taken_for: str | None


@dataclass(frozen=True, kw_only=True)
class Result:
    """The accuracy of one run on one split, and everything needed to cite it."""

    run: str
    task: str
    split: str
    accuracy: float
    accuracy_interval_95: tuple[float, float]
    top_5_accuracy: float
    chance: float
    utterances: int
    speakers: int
    upstream: str
    untrained: bool
    upstream_parameters: int
    head_parameters: int
    layers: str
    layer_weights: tuple[float, ...]
    learning_rate: float
    epochs: int
    seed: int
    data: str
    data_fingerprint: str
    per_speaker: tuple[SpeakerResult, ...]

    @property
    def upstream_name(self) -> str:
        """What a table calls the upstream."""
        name = Path(self.upstream).name
        origin = Path(self.upstream).parent.name if name == EXPORT_FOLDER else name
        last_layer = self.layers == "last" and name not in SETTINGS_BY_KIND
        return origin + ", untrained" * self.untrained + ", last layer" * last_layer


@dataclass(frozen=True)
class Evaluation:
    """A result with what only its report shows."""

    run: RunFolder
    result: Result
    confusion: NDArray[np.int64]
    model: SpeakerClassifier
    dataset: Dataset


def evaluate_runs(runs: Sequence[Path], *, data: Path | str | None = None) -> list[Evaluation]:
    """Evaluate runs on their test split; each gets a `metrics.json`.

    `data` is where their dataset lies now, if it was moved. Raises `InputError` when a
    run is unfinished and `IntegrityError` when the data is not what it was trained on.
    """
    evaluations = [evaluate_run(RunFolder(path), data) for path in runs]
    results = [evaluation.result for evaluation in evaluations]
    for result in results[1:]:
        if (result.data_fingerprint, result.split) != (
            results[0].data_fingerprint,
            results[0].split,
        ):
            raise ConfigError(
                f"{result.run} was tested on other data than {results[0].run}: "
                "evaluate them one by one, their accuracies cannot be compared"
            )
    return evaluations


def evaluate_run(run: RunFolder, data: Path | str | None) -> Evaluation:
    """Evaluate one run and write its `metrics.json`."""
    record = run.read_record()
    if record["task"] != TASK:
        raise ConfigError(
            f"{run.path} is a run of '{record['task']}': evaluate a downstream run, "
            f"made by 'aalbert downstream {TASK} --upstream {run.path}'"
        )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = SpeakerClassifier.from_pretrained(run.path).to(device)
    dataset = open_data(record, data)
    config = load_config(DownstreamConfig, file=run.config, environment={})
    scores = score_split(model, dataset, config, config.test_split)
    result = summarise(run, record, model, config, dataset, scores)
    write_json(run.evaluation, asdict(result))
    return Evaluation(run, result, scores.confusion(), model, dataset)


def score_split(
    model: SpeakerClassifier, dataset: Dataset, config: DownstreamConfig, split: str
) -> Scores:
    """Score every utterance of a split."""
    speakers = name_classes(dataset, model.speakers)
    feature = str(model.upstream.config.features["kind"])
    rows = speakers.rows(dataset, split)
    loader = evaluation_loader(dataset, rows, feature, config.batch_seconds, config.prefetch)
    return score(model, loader, speakers)


def summarise(
    run: RunFolder,
    record: dict[str, Any],
    model: SpeakerClassifier,
    config: DownstreamConfig,
    dataset: Dataset,
    scores: Scores,
) -> Result:
    """Put the numbers and where they come from into one result."""
    low, high = bootstrap_interval(scores.correct, seed=config.seed)
    mix = model.head.mix
    return Result(
        run=str(run.path),
        task=TASK,
        split=config.test_split,
        accuracy=scores.accuracy(),
        accuracy_interval_95=(round(low, 6), round(high, 6)),
        top_5_accuracy=scores.accuracy(top=TOP),
        chance=round(1 / len(model.speakers), 6),
        utterances=len(scores.rows),
        speakers=len(model.speakers),
        upstream=record["upstream"],
        untrained=config.untrained,
        upstream_parameters=count_parameters(model.upstream),
        head_parameters=count_parameters(model.head),
        layers=model.layers,
        layer_weights=tuple(round(w, 6) for w in mix.weights().tolist()) if mix else (),
        learning_rate=config.learning_rate,
        epochs=config.epochs,
        seed=config.seed,
        data=lasting_place(dataset.place),
        data_fingerprint=record["data_fingerprint"],
        per_speaker=speaker_results(model.speakers, scores.confusion()),
    )


def speaker_results(names: list[str], confusion: NDArray[np.int64]) -> tuple[SpeakerResult, ...]:
    """Return the speakers of the split, the least recognised first."""
    results = []
    for number, name in enumerate(names):
        counts = confusion[number].copy()
        right, total = int(counts[number]), int(counts.sum())
        counts[number] = 0
        if total:
            results.append(
                SpeakerResult(
                    speaker=name,
                    utterances=total,
                    accuracy=round(right / total, 6),
                    taken_for=names[int(counts.argmax())] if counts.any() else None,
                )
            )
    return tuple(sorted(results, key=lambda result: (result.accuracy, result.speaker)))


def results_table(results: Sequence[Result]) -> str:
    """Return the results as a table of text, the best first, with chance at the end."""
    rows = [
        (
            result.upstream_name,
            f"{100 * result.accuracy:.1f} %",
            " to ".join(f"{100 * bound:.1f}" for bound in result.accuracy_interval_95),
            f"{100 * result.top_5_accuracy:.1f} %",
        )
        for result in sorted(results, key=lambda result: -result.accuracy)
    ]
    rows.append(("chance", f"{100 * results[0].chance:.1f} %", "", ""))
    header = ("upstream", "accuracy", "95 % interval", "top 5")
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (header, *rows)
    )
