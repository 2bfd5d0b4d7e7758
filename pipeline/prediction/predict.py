"""`predict`: from recordings to their classes, in memory or in a folder that a job continues.

The folder holds the predictions, `skipped.jsonl` (inputs that were skipped, with the reason)
and, written last, `prediction.json`: what was predicted and how.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from aalbert.common.files import write_json, write_text
from aalbert.common.json_files import json_lines, read_record
from aalbert.common.progress import SHORT_WAIT_S, ProgressBar, progress_bar
from aalbert.common.redaction import redact_url
from aalbert.common.work_folder import do_once, remove_work
from aalbert.errors import OutputInUseError, require
from aalbert.models.finite import require_finite
from aalbert.pipeline.corpora.corpus import Skip
from aalbert.pipeline.embeddings.inputs import Inputs, Recording, by_length, prefetch, refuse_all
from aalbert.pipeline.embeddings.pieces import do_pieces, split_into_pieces
from aalbert.pipeline.prediction.prediction import Per
from aalbert.pipeline.prediction.predictor import Predictor
from aalbert.pipeline.prediction.writers import (
    Format,
    Predicted,
    check_format,
    write_predictions,
)
from aalbert.shards.format.feature_settings import fingerprint

RECORD_NAME, SKIPPED_NAME = "prediction.json", "skipped.jsonl"
WORK_FOLDER = ".predict"
# What the folder holds when the plan is another, in the words of an error.
UNFINISHED = "prediction of other inputs, settings or another run"
SOFTWARE = ("aalbert", "torch", "numpy")
PIECE_SECONDS = 3600.0


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """What is classified, the number of classes to state, and the format of the files.

    Without `per` it is what the run classifies: utterances, or segments.
    """

    per: Per | None = None
    top: int = 1
    format: Format = "jsonl"
    piece_seconds: float = PIECE_SECONDS

    def __post_init__(self) -> None:
        require(self.top > 0, f"top {self.top} must be above 0")


@dataclass(frozen=True, kw_only=True)
class PieceNotes:
    """What is noted of a finished piece: its predictions, and what was skipped."""

    predicted: tuple[Predicted, ...]
    skipped: tuple[Skip, ...]


@dataclass(frozen=True, kw_only=True)
class PredictionRecord:
    """What `prediction.json` holds: what was predicted, and how."""

    model: str
    inputs: tuple[str, ...]
    per: Per
    top: int
    format: Format
    classes: int
    model_fingerprint: str
    plan_fingerprint: str
    utterances: int
    hours: float
    skipped: int
    software: Mapping[str, str]


def predict_here(
    predictor: Predictor, inputs: Inputs, config: PredictConfig
) -> tuple[list[Predicted], list[Skip]]:
    """Return the predictions of the recordings, in the order of the inputs, and what was skipped.

    Raises `ConfigError` when the run has no such classes, `InputError` when no recording can be
    used.
    """
    per = predictor.choose_per(config.per)
    check_format(config.format, per, predictor.classes)
    total = len(inputs.recordings)
    with progress_bar("predict", total=total, unit="file", delay_s=SHORT_WAIT_S) as bar:
        notes = predict_piece(predictor, by_length(inputs.recordings), config.top, per, bar)
    skipped = [*inputs.skipped, *notes.skipped]
    if not notes.predicted:
        refuse_all(skipped)
    return in_order(inputs, notes.predicted), skipped


def predict_into(
    predictor: Predictor, inputs: Inputs, out: Path, config: PredictConfig
) -> dict[str, Any]:
    """Write the predictions of the recordings into `out` and return `prediction.json`.

    Work that was finished before an interruption is kept, and a finished prediction too.
    Raises `OutputInUseError` when `out` holds something else, and errors as `predict_here` does.
    """
    per = predictor.choose_per(config.per)
    check_format(config.format, per, predictor.classes)
    # All that decides the predictions; audio files count by their sizes.
    settings = [predictor.reader.fingerprint, asdict(config), inputs.identities()]
    plan = fingerprint(settings)

    def predict() -> dict[str, Any]:
        pieces = split_into_pieces(
            by_length(inputs.recordings), lambda each: each.seconds, config.piece_seconds
        )
        notes = do_pieces(
            out / WORK_FOLDER,
            list(pieces),
            PieceNotes,
            lambda _, piece, bar: predict_piece(predictor, piece, config.top, per, bar),
            "predict",
        )
        return finish(predictor, inputs, out, config, per, plan, notes)

    return do_once(out / WORK_FOLDER, plan, UNFINISHED, lambda: read_finished(out, plan), predict)


def read_finished(out: Path, plan: str) -> dict[str, Any] | None:
    """Return the record of a finished prediction; `OutputInUseError` when it has another plan."""
    path = out / RECORD_NAME
    if not path.is_file():
        return None
    record = read_record(PredictionRecord, path, f"delete {out} and predict again")
    if record.plan_fingerprint != plan:
        raise OutputInUseError(
            f"{out} holds predictions of other inputs, settings or another run: choose another "
            "--out, or delete it first"
        )
    return asdict(record)


def predict_piece(
    predictor: Predictor, piece: Sequence[Recording], top: int, per: Per, bar: ProgressBar
) -> PieceNotes:
    """Return the predictions of some recordings."""
    skipped: list[Skip] = []
    predicted: list[Predicted] = []
    loaded = ((item, item[1].features) for item in prefetch(piece, skipped))
    for (recording, audio), scores in predictor.score(loaded):
        require_finite(scores, recording.key)
        seconds = audio.samples / predictor.settings.sample_rate
        prediction = predictor.describe(scores, seconds, top, per)
        predicted.append(
            Predicted(key=recording.key, source=recording.source, prediction=prediction)
        )
        bar.update()
    bar.update(len(skipped))
    return PieceNotes(predicted=tuple(predicted), skipped=tuple(skipped))


def in_order(inputs: Inputs, predicted: Sequence[Predicted]) -> list[Predicted]:
    """Return predictions in the order of the inputs."""
    by_key = {each.key: each for each in predicted}
    return [by_key[each.key] for each in inputs.recordings if each.key in by_key]


def finish(
    predictor: Predictor,
    inputs: Inputs,
    out: Path,
    config: PredictConfig,
    per: Per,
    plan: str,
    notes: Sequence[PieceNotes],
) -> dict[str, Any]:
    """Write the predictions, the list of skipped inputs and, last, the record, and return it."""
    predicted = in_order(inputs, [each for note in notes for each in note.predicted])
    skipped = [*inputs.skipped, *(skip for note in notes for skip in note.skipped)]
    if not predicted:
        remove_work(out / WORK_FOLDER)
        refuse_all(skipped)
    write_predictions(out, predicted, config.format, per)
    skipped.sort(key=lambda skip: skip.source)
    write_text(out / SKIPPED_NAME, json_lines(map(asdict, skipped)))
    record = PredictionRecord(
        model=predictor.reader.place,
        inputs=tuple(map(redact_url, inputs.places)),
        per=per,
        top=config.top,
        format=config.format,
        classes=len(predictor.classes),
        model_fingerprint=predictor.reader.fingerprint,
        plan_fingerprint=plan,
        utterances=len(predicted),
        hours=sum(each.prediction.seconds for each in predicted) / 3600,
        skipped=len(skipped),
        software={name: version(name) for name in SOFTWARE},
    )
    write_json(out / RECORD_NAME, asdict(record))
    return asdict(record)
