"""`extract`: from recordings to a folder of embeddings, in pieces that are finished or absent.

The folder holds the embeddings, `index.jsonl` (a line per recording), `skipped.jsonl`
(inputs that were skipped, with the reason) and, written last, `extraction.json`: what was
extracted and how. An interrupted extraction continues where it stopped.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from aalbert.common.files import write_json, write_text
from aalbert.common.json_files import read_record
from aalbert.common.progress import ProgressBar, progress_bar
from aalbert.common.redaction import redact_url
from aalbert.common.work_folder import do_once, remove_work
from aalbert.errors import InputError, OutputInUseError
from aalbert.models.finite import require_finite
from aalbert.pipeline.corpora.corpus import Skip
from aalbert.pipeline.embeddings.inputs import Recording, prefetch
from aalbert.pipeline.embeddings.model import (
    EmbeddingModel,
    EmbeddingPooling,
    Layers,
    check_choice,
    pool,
)
from aalbert.pipeline.embeddings.writers import WRITERS, Embedded, EmbeddingLayout, Format, IndexRow
from aalbert.shards.format.feature_settings import fingerprint

RECORD_NAME, INDEX_NAME, SKIPPED_NAME = "extraction.json", "index.jsonl", "skipped.jsonl"
WORK_FOLDER = ".extract"
# What the folder holds when the plan is another, in the words of an error.
UNFINISHED = "extraction of other inputs, settings or another model"
SOFTWARE = ("aalbert", "torch", "numpy")
PIECE_BYTES = 64 * 2**20
BYTES_PER_NUMBER = 4


@dataclass(frozen=True, kw_only=True)
class ExtractConfig:
    """The hidden states to extract, their pooling, and the format of the files."""

    layers: Layers = "last"
    pooling: EmbeddingPooling = "none"
    format: Format = "npy"
    piece_bytes: int = PIECE_BYTES

    @property
    def layout(self) -> EmbeddingLayout:
        """The layout of the array of a recording."""
        return EmbeddingLayout(all_states=self.layers == "all", pooled=self.pooling != "none")


@dataclass(frozen=True, kw_only=True)
class PieceNotes:
    """What is noted of a finished piece: its rows of the index, and what was skipped."""

    rows: tuple[IndexRow, ...]
    skipped: tuple[Skip, ...]


@dataclass(frozen=True, kw_only=True)
class ExtractionRecord:
    """What `extraction.json` holds: what was extracted, and how."""

    model: str
    inputs: tuple[str, ...]
    layers: Layers
    pooling: EmbeddingPooling
    format: Format
    dtype: str
    states: int
    width: int
    frame_shift_ms: float
    model_fingerprint: str
    plan_fingerprint: str
    utterances: int
    hours: float
    skipped: int
    software: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The inputs of an extraction: the recordings, the shortest first, and unusable inputs.

    `places` are the paths and URLs that the user gave.
    """

    recordings: Sequence[Recording]
    skipped: Sequence[Skip] = ()
    places: Sequence[str] = ()


def extract_embeddings(
    model: EmbeddingModel, inputs: Inputs, out: Path, config: ExtractConfig
) -> dict[str, Any]:
    """Write the embeddings of the recordings into `out` and return `extraction.json`.

    Work that was finished before an interruption is kept, and a finished extraction too.
    Raises `OutputInUseError` when `out` holds something else, `InputError` when no recording
    can be used.
    """
    check_choice(model, config.layers, config.pooling)
    # All that decides the bytes of the embeddings; audio files count by their sizes.
    recordings = [(each.key, each.source, *each.identity) for each in inputs.recordings]
    plan = fingerprint([model.fingerprint, asdict(config), recordings])

    def extract() -> dict[str, Any]:
        pieces = list(split_into_pieces(inputs.recordings, model, config))
        with progress_bar("extract", total=len(inputs.recordings), unit="file") as bar:
            for number, piece in enumerate(pieces):
                embed_piece(model, piece, number, out, config, bar)
        return finish(model, inputs, out, config, plan, len(pieces))

    return do_once(out / WORK_FOLDER, plan, UNFINISHED, lambda: read_finished(out, plan), extract)


def read_finished(out: Path, plan: str) -> dict[str, Any] | None:
    """Return the record of a finished extraction; `OutputInUseError` when it has another plan."""
    path = out / RECORD_NAME
    if not path.is_file():
        return None
    record = read_record(ExtractionRecord, path, f"delete {out} and extract again")
    if record.plan_fingerprint != plan:
        raise OutputInUseError(
            f"{out} holds embeddings of other inputs, settings or another model: choose another "
            "--out, or delete it first"
        )
    return asdict(record)


def split_into_pieces(
    recordings: Sequence[Recording], model: EmbeddingModel, config: ExtractConfig
) -> Iterator[list[Recording]]:
    """Yield the recordings in pieces whose embeddings have about `piece_bytes` each."""
    states = model.layers + 1 if config.layers == "all" else 1
    frame_bytes = states * model.width * BYTES_PER_NUMBER
    piece: list[Recording] = []
    filled = 0.0
    for recording in recordings:
        frames = 1.0 if config.layout.pooled else recording.seconds * 1000 / model.frame_shift_ms
        if piece and filled + frames * frame_bytes > config.piece_bytes:
            yield piece
            piece, filled = [], 0.0
        piece.append(recording)
        filled += frames * frame_bytes
    if piece:
        yield piece


def embed_piece(
    model: EmbeddingModel,
    piece: Sequence[Recording],
    number: int,
    out: Path,
    config: ExtractConfig,
    bar: ProgressBar,
) -> None:
    """Write a piece and then its notes, whose presence means that the piece is complete."""
    notes = note_path(out, number)
    if notes.is_file():
        bar.update(len(piece))
        return
    skipped: list[Skip] = []
    done: dict[str, Embedded] = {}
    loaded = ((item, item[1].features) for item in prefetch(piece, skipped))
    for (recording, audio), states in model.embed(loaded):
        chosen = pool(model.choose(states, config.layers), config.pooling).cpu()
        require_finite(chosen, recording.key)
        embedded = Embedded(recording=recording, loaded=audio, embedding=chosen.numpy())
        done[recording.key] = embedded
        bar.update()
    bar.update(len(skipped))
    found = [done[recording.key] for recording in piece if recording.key in done]
    files = WRITERS[config.format](out, number, found, config.layout) if found else []
    rows = [each.row(file, model.sample_rate) for each, file in zip(found, files, strict=True)]
    write_json(notes, asdict(PieceNotes(rows=tuple(rows), skipped=tuple(skipped))))


def note_path(out: Path, number: int) -> Path:
    """Return the path of the index rows of a finished piece, in the work folder."""
    return out / WORK_FOLDER / f"{number:06d}.json"


def finish(
    model: EmbeddingModel,
    inputs: Inputs,
    out: Path,
    config: ExtractConfig,
    plan: str,
    pieces: int,
) -> dict[str, Any]:
    """Write the index, the list of skipped inputs and, last, the record, and return it."""
    again = "delete it and run the same command again"
    notes = [read_record(PieceNotes, note_path(out, number), again) for number in range(pieces)]
    rows = sorted((row for note in notes for row in note.rows), key=lambda row: row.key)
    skipped = [*inputs.skipped, *(skip for note in notes for skip in note.skipped)]
    if not rows:
        remove_work(out / WORK_FOLDER)
        example = f"; for example {skipped[0].source}: {skipped[0].reason}" if skipped else ""
        raise InputError(f"none of the {len(skipped)} inputs can be used{example}")
    write_text(out / INDEX_NAME, json_lines(map(asdict, rows)))
    skipped.sort(key=lambda skip: skip.source)
    write_text(out / SKIPPED_NAME, json_lines(map(asdict, skipped)))
    record = ExtractionRecord(
        model=model.place,
        inputs=tuple(map(redact_url, inputs.places)),
        layers=config.layers,
        pooling=config.pooling,
        format=config.format,
        dtype="float16" if config.format == "shards" else "float32",
        states=model.layers + 1,
        width=rows[0].shape[-1],
        frame_shift_ms=model.frame_shift_ms,
        model_fingerprint=model.fingerprint,
        plan_fingerprint=plan,
        utterances=len(rows),
        hours=sum(row.seconds for row in rows) / 3600,
        skipped=len(skipped),
        software={name: version(name) for name in SOFTWARE},
    )
    write_json(out / RECORD_NAME, asdict(record))
    return asdict(record)


def json_lines(documents: Iterable[Any]) -> str:
    """Return JSON documents, one per line."""
    return "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in documents)
