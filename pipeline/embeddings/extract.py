"""`extract`: from recordings to a folder of embeddings, in pieces that are finished or absent.

The folder holds the embeddings, `index.jsonl` (a line per recording), `skipped.jsonl`
(inputs that were skipped, with the reason) and, written last, `extraction.json`: what was
extracted and how. An interrupted extraction continues where it stopped.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from aalbert.common.files import write_json, write_text
from aalbert.common.json_files import json_lines
from aalbert.common.progress import Progress
from aalbert.common.redaction import redact_url
from aalbert.common.work_folder import do_once, remove_work
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
from aalbert.pipeline.embeddings.model import (
    EmbeddingModel,
    EmbeddingPooling,
    Layers,
    check_choice,
    pool,
)
from aalbert.pipeline.embeddings.pieces import (
    SOFTWARE,
    FinishedWork,
    do_pieces,
    list_skipped,
    read_finished,
    split_into_pieces,
)
from aalbert.pipeline.embeddings.writers import WRITERS, Embedded, EmbeddingLayout, Format, IndexRow
from aalbert.shards.format.feature_settings import fingerprint

RECORD_NAME, INDEX_NAME = "extraction.json", "index.jsonl"
WORK_FOLDER = ".extract"
# What the folder holds when the plan is another, in the words of an error.
UNFINISHED = "extraction of other inputs, settings or another model"
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
class ExtractionRecord(FinishedWork):
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
    utterances: int
    hours: float
    skipped: int
    software: Mapping[str, str]


def extract_embeddings(
    model: EmbeddingModel, inputs: Inputs, out: Path, config: ExtractConfig
) -> dict[str, Any]:
    """Write the embeddings of the recordings into `out` and return `extraction.json`.

    Work that was finished before an interruption is kept, and a finished extraction too.
    Raises `OutputInUseError` when `out` holds something else, `InputError` when no recording
    can be used.
    """
    check_choice(model, config.layers, config.pooling)
    recordings = by_length(inputs.recordings)
    # All that decides the bytes of the embeddings; audio files count by their sizes.
    plan = fingerprint([model.fingerprint, asdict(config), identities(recordings)])

    def extract() -> dict[str, Any]:
        pieces = list(
            split_into_pieces(
                recordings,
                partial(embedding_bytes, model=model, config=config),
                config.piece_bytes,
            )
        )
        notes = do_pieces(
            out / WORK_FOLDER,
            pieces,
            PieceNotes,
            lambda number, piece, bar: embed_piece(model, piece, number, out, config, bar),
            "extract",
        )
        return finish(model, inputs, out, config, plan, notes)

    def find() -> dict[str, Any] | None:
        return read_finished(out / RECORD_NAME, ExtractionRecord, plan, "embeddings")

    return do_once(out / WORK_FOLDER, plan, UNFINISHED, find, extract)


def embedding_bytes(recording: Recording, model: EmbeddingModel, config: ExtractConfig) -> float:
    """Return the bytes that the embedding of a recording has, about."""
    states = model.layers + 1 if config.layers == "all" else 1
    frames = 1.0 if config.layout.pooled else recording.seconds * 1000 / model.frame_shift_ms
    return frames * states * model.width * BYTES_PER_NUMBER


def embed_piece(
    model: EmbeddingModel,
    piece: Sequence[Recording],
    number: int,
    out: Path,
    config: ExtractConfig,
    bar: Progress,
) -> PieceNotes:
    """Write the embeddings of a piece and return its notes."""
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
    return PieceNotes(rows=tuple(rows), skipped=tuple(skipped))


def finish(
    model: EmbeddingModel,
    inputs: Inputs,
    out: Path,
    config: ExtractConfig,
    plan: str,
    notes: Sequence[PieceNotes],
) -> dict[str, Any]:
    """Write the index, the list of skipped inputs and, last, the record, and return it."""
    rows = sorted((row for note in notes for row in note.rows), key=lambda row: row.key)
    skipped = [*inputs.skipped, *(skip for note in notes for skip in note.skipped)]
    if not rows:
        remove_work(out / WORK_FOLDER)
        refuse_all(skipped)
    write_text(out / INDEX_NAME, json_lines(map(asdict, rows)))
    list_skipped(out, skipped)
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
