"""Recordings in pieces, each of which is finished or absent, so that an interrupted job goes on."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from aalbert.common.files import write_json, write_text
from aalbert.common.json_files import json_lines, read_record
from aalbert.common.progress import Progress, progress_bar
from aalbert.errors import OutputInUseError
from aalbert.pipeline.corpora.corpus import Skip, check_skipped, read_skips
from aalbert.pipeline.embeddings.inputs import Recording

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Notes = TypeVar("Notes", bound="DataclassInstance")
# The list of unusable inputs in an output, and the packages whose versions its record has.
SKIPPED_NAME = "skipped.jsonl"
SOFTWARE = ("aalbert", "torch", "numpy")


@dataclass(frozen=True, kw_only=True)
class FinishedWork:
    """What the records of finished work have in common."""

    plan_fingerprint: str


Finished = TypeVar("Finished", bound=FinishedWork)


def split_into_pieces(
    recordings: Sequence[Recording], size_of: Callable[[Recording], float], piece_size: float
) -> Iterator[list[Recording]]:
    """Yield the recordings in pieces that fill `piece_size`, or of one recording that is larger."""
    piece: list[Recording] = []
    filled = 0.0
    for recording in recordings:
        size = size_of(recording)
        if piece and filled + size > piece_size:
            yield piece
            piece, filled = [], 0.0
        piece.append(recording)
        filled += size
    if piece:
        yield piece


def do_pieces(
    work: Path,
    pieces: Sequence[Sequence[Recording]],
    kind: type[Notes],
    do: Callable[[int, Sequence[Recording], Progress], Notes],
    description: str,
) -> list[Notes]:
    """Do the pieces that are not done yet, and return the notes of all.

    `do` gets the number of a piece, its recordings and a bar to update, and returns what is to be
    noted of it. The notes are in the folder `work`; their presence means that a piece is done.
    """
    paths = [work / f"{number:06d}.json" for number in range(len(pieces))]
    with progress_bar(description, total=sum(map(len, pieces)), unit="file") as bar:
        for number, (path, piece) in enumerate(zip(paths, pieces, strict=True)):
            if path.is_file():
                bar.update(len(piece))
            else:
                write_json(path, asdict(do(number, piece, bar)))
    return [read_record(kind, path, "delete it and run the same command again") for path in paths]


def read_finished(
    path: Path, kind: type[Finished], plan: str, contents: str
) -> dict[str, Any] | None:
    """Return the record of finished work, None if there is none.

    Raises `OutputInUseError`, which says what the `contents` are, when it had another plan.
    """
    if not path.is_file():
        return None
    record = read_record(kind, path, f"delete {path.parent} and run the same command again")
    if record.plan_fingerprint != plan:
        raise OutputInUseError(
            f"{path.parent} holds {contents} of other inputs, settings or another model: choose "
            "another --out, or delete it first"
        )
    return asdict(record)


def check_finished(out: Path, record: Mapping[str, Any], max_skipped: float, contents: str) -> None:
    """Raise `TooManySkippedError` when finished work skipped too many inputs.

    `record` has the numbers of `utterances` and of those `skipped`, whose list is in `out`.
    """
    check_skipped(
        taken=record["utterances"],
        skipped=record["skipped"],
        max_skipped=max_skipped,
        find_skips=lambda: read_skips(out / SKIPPED_NAME),
        advice=f"The {contents} of the others are complete; see {out / SKIPPED_NAME}",
    )


def list_skipped(out: Path, skipped: Sequence[Skip]) -> None:
    """Write the list of inputs that were skipped, by their sources."""
    ordered = sorted(skipped, key=lambda skip: skip.source)
    write_text(out / SKIPPED_NAME, json_lines(map(asdict, ordered)))
