"""Recordings in pieces, each of which is finished or absent, so that an interrupted job goes on."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from aalbert.common.files import write_json
from aalbert.common.json_files import read_record
from aalbert.common.progress import ProgressBar, progress_bar
from aalbert.pipeline.embeddings.inputs import Recording

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Notes = TypeVar("Notes", bound="DataclassInstance")


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
    do: Callable[[int, Sequence[Recording], ProgressBar], Notes],
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
