"""`predict`: from recordings to their classes, in memory or in a folder that a job continues.

The folder holds the predictions, `skipped.jsonl` (inputs that were skipped, with the reason)
and, written last, `prediction.json`: what was predicted and how.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from aalbert.common.files import write_json
from aalbert.common.progress import SHORT_WAIT_S, Progress, progress_bar
from aalbert.common.redaction import redact_url
from aalbert.common.work_folder import do_once, remove_work
from aalbert.errors import require
from aalbert.models.finite import require_finite
from aalbert.pipeline.corpora.corpus import Skip
from aalbert.pipeline.embeddings.inputs import (
    Inputs,
    Recording,
    by_length,
    identities,
    prefetch,
    refuse_all,
)
from aalbert.pipeline.embeddings.pieces import (
    SOFTWARE,
    FinishedWork,
    do_pieces,
    list_skipped,
    read_finished,
    split_into_pieces,
)
from aalbert.pipeline.prediction.prediction import Per
from aalbert.pipeline.prediction.predictor import Predictor
from aalbert.pipeline.prediction.writers import (
    Format,
    Predicted,
    check_format,
    join_parts,
    names_of,
    write_part,
)
from aalbert.shards.format.feature_settings import fingerprint

RECORD_NAME = "prediction.json"
WORK_FOLDER = ".predict"
# What the folder holds when the plan is another, in the words of an error.
UNFINISHED = "prediction of other inputs, settings or another model"
# Speech has some 12 phones a second; a table has a row for each.
SEGMENTS_PER_SECOND = 15.0


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """What is classified, the number of classes to state, the format, the size of a piece.

    A piece has so many seconds of speech, or so many rows in a table. Without `per` it is what the
    run classifies: utterances, or segments.
    """

    per: Per | None = None
    top: int = 1
    format: Format = "jsonl"
    piece_seconds: float = 3600.0
    piece_rows: int = 200_000

    def __post_init__(self) -> None:
        require(self.top > 0, f"top {self.top} must be above 0")


@dataclass(frozen=True, kw_only=True)
class PieceNotes:
    """What is noted of a finished piece: how much it has, and what was skipped."""

    utterances: int
    seconds: float
    skipped: tuple[Skip, ...]


@dataclass(frozen=True, kw_only=True)
class PredictionRecord(FinishedWork):
    """What `prediction.json` holds: what was predicted, and how."""

    model: str
    inputs: tuple[str, ...]
    per: Per
    top: int
    format: Format
    classes: int
    model_fingerprint: str
    utterances: int
    hours: float
    skipped: int
    software: Mapping[str, str]


def predict_in_turn(
    predictor: Predictor, inputs: Inputs, config: PredictConfig
) -> Iterator[tuple[list[Predicted], list[Skip]]]:
    """Yield the predictions of the recordings, in the order of the inputs, a piece at a time.

    With each come the recordings that were skipped. Raises `ConfigError` when the run has no such
    classes.
    """
    config = resolved(predictor, config)
    names, total = names_of(inputs.recordings), len(inputs.recordings)
    with progress_bar("predict", total=total, unit="file", delay_s=SHORT_WAIT_S) as bar:
        for piece in pieces_of(predictor, inputs, config):
            yield predict_piece(predictor, piece, names, config, bar)


def predict_into(
    predictor: Predictor, inputs: Inputs, out: Path, config: PredictConfig
) -> dict[str, Any]:
    """Write the predictions of the recordings into `out` and return `prediction.json`.

    Work that was finished before an interruption is kept, and a finished prediction too.
    Raises `OutputInUseError` when `out` holds something else, `InputError` when no recording can
    be used, and `ConfigError` as `predict_in_turn` does.
    """
    config = resolved(predictor, config)
    # All that decides the predictions and their order; audio files count by their sizes.
    settings = [predictor.reader.fingerprint, asdict(config), identities(inputs.recordings)]
    plan, work = fingerprint(settings), out / WORK_FOLDER
    names = names_of(inputs.recordings)

    def do(number: int, piece: Sequence[Recording], bar: Progress) -> PieceNotes:
        predicted, skipped = predict_piece(predictor, piece, names, config, bar)
        write_part(out, part_of(work, number), predicted, config.format, per_of(config))
        seconds = sum(each.prediction.seconds for each in predicted)
        return PieceNotes(utterances=len(predicted), seconds=seconds, skipped=tuple(skipped))

    def predict() -> dict[str, Any]:
        pieces = list(pieces_of(predictor, inputs, config))
        notes = do_pieces(work, pieces, PieceNotes, do, "predict")
        return finish(predictor, inputs, out, config, plan, notes)

    def find() -> dict[str, Any] | None:
        return read_finished(out / RECORD_NAME, PredictionRecord, plan, "predictions")

    return do_once(work, plan, UNFINISHED, find, predict)


def resolved(predictor: Predictor, config: PredictConfig) -> PredictConfig:
    """Return the settings with what is classified; `ConfigError` for what the run cannot do."""
    per = predictor.choose_per(config.per)
    predictor.require_top(config.top)
    check_format(config.format, per, predictor.classes)
    return replace(config, per=per)


def per_of(config: PredictConfig) -> Per:
    """Return what is classified by settings that are resolved."""
    assert config.per is not None
    return config.per


def pieces_of(
    predictor: Predictor, inputs: Inputs, config: PredictConfig
) -> Iterator[list[Recording]]:
    """Yield the recordings in the order of the inputs, in pieces."""
    per_second = {
        "utterance": 0.0,
        "number": 0.0,
        "segment": SEGMENTS_PER_SECOND,
        "frame": 1000 / predictor.reader.frame_shift_ms,
    }[per_of(config)]

    def size_of(recording: Recording) -> float:
        rows = max(1.0, per_second * recording.seconds) * config.top
        return max(rows / config.piece_rows, recording.seconds / config.piece_seconds)

    return split_into_pieces(inputs.recordings, size_of, 1.0)


def predict_piece(
    predictor: Predictor,
    piece: Sequence[Recording],
    names: Mapping[str, str],
    config: PredictConfig,
    bar: Progress,
) -> tuple[list[Predicted], list[Skip]]:
    """Return the predictions of some recordings, in their order, and what was skipped."""
    skipped: list[Skip] = []
    predicted: dict[str, Predicted] = {}
    read = prefetch(by_length(piece), skipped)
    loaded = (((recording, audio.samples), audio.features) for recording, audio in read)
    for (recording, samples), scores in predictor.score(loaded):
        require_finite(scores, recording.key)
        seconds = samples / predictor.settings.sample_rate
        predicted[recording.key] = Predicted(
            key=recording.key,
            source=recording.source,
            name=names[recording.key],
            prediction=predictor.describe(scores, seconds, config.top, per_of(config)),
        )
        bar.update()
    bar.update(len(skipped))
    return [predicted[each.key] for each in piece if each.key in predicted], skipped


def part_of(work: Path, number: int) -> Path:
    """Return the path of the predictions of a piece."""
    return work / f"{number:06d}.part"


def finish(
    predictor: Predictor,
    inputs: Inputs,
    out: Path,
    config: PredictConfig,
    plan: str,
    notes: Sequence[PieceNotes],
) -> dict[str, Any]:
    """Write the predictions, the list of skipped inputs and, last, the record, and return it."""
    skipped = [*inputs.skipped, *(skip for note in notes for skip in note.skipped)]
    if not any(note.utterances for note in notes):
        remove_work(out / WORK_FOLDER)
        refuse_all(skipped)
    parts = [part_of(out / WORK_FOLDER, number) for number in range(len(notes))]
    join_parts(out, parts, config.format, per_of(config))
    list_skipped(out, skipped)
    record = PredictionRecord(
        model=predictor.reader.place,
        inputs=tuple(map(redact_url, inputs.places)),
        per=per_of(config),
        top=config.top,
        format=config.format,
        classes=len(predictor.classes),
        model_fingerprint=predictor.reader.fingerprint,
        plan_fingerprint=plan,
        utterances=sum(note.utterances for note in notes),
        hours=sum(note.seconds for note in notes) / 3600,
        skipped=len(skipped),
        software={name: version(name) for name in SOFTWARE},
    )
    write_json(out / RECORD_NAME, asdict(record))
    return asdict(record)
