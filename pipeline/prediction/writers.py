"""Predictions as tables, JSON lines, CSV, Parquet, CTM and TextGrid."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from aalbert.common.csv_text import csv_text
from aalbert.common.files import atomic_write, write_text
from aalbert.common.json_files import json_lines
from aalbert.common.text import text_table
from aalbert.common.textgrid import PhoneInterval, textgrid
from aalbert.errors import require
from aalbert.pipeline.prediction.prediction import Per, Prediction, Segment

Format = Literal["table", "jsonl", "csv", "parquet", "ctm", "textgrid"]
# Of all formats but one file a recording: the file's name.
FILE_NAMES: dict[Format, str] = {
    "table": "predictions.txt",
    "jsonl": "predictions.jsonl",
    "csv": "predictions.csv",
    "parquet": "predictions.parquet",
    "ctm": "predictions.ctm",
}
COLUMNS = ("key", "source", "start", "end", "rank", "class", "score")
# Phones last some 50 ms; a frame has 10.
TIME_DIGITS = 3
# Of files whose names are no trouble in a list that spaces divide, or in a folder.
PLAIN_NAME = re.compile(r"\w[\w.-]{0,99}", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """A recording by its key and its source, and what was predicted of it."""

    key: str
    source: str
    prediction: Prediction


def rows_of(predicted: Sequence[Predicted]) -> Iterator[tuple[Any, ...]]:
    """Yield a row with the `COLUMNS` for each class of each segment, the best of rank 1."""
    for each in predicted:
        for segment in each.prediction.segments:
            for rank, scored in enumerate(segment.classes, start=1):
                times = (segment.start, segment.end)
                yield each.key, each.source, *times, rank, scored.name, scored.score


def as_table(predicted: Sequence[Predicted], per: Per) -> str:
    """Return a table for people: the recordings as they were given, scores with three digits."""
    rows = [
        (
            source,
            *(() if per == "utterance" else (seconds(start), seconds(end))),
            name,
            f"{score:.3f}",
        )
        for _, source, start, end, _, name, score in rows_of(predicted)
    ]
    times = () if per == "utterance" else ("start", "end")
    return text_table([("recording", *times, "class", "score"), *rows]) + "\n"


def as_json_lines(predicted: Sequence[Predicted], per: Per) -> str:
    """Return a JSON document a line for each recording, with its `classes` or `segments`."""
    return json_lines(as_document(each, per) for each in predicted)


def as_document(predicted: Predicted, per: Per) -> dict[str, Any]:
    """Return a recording's prediction as a JSON document."""
    segments = predicted.prediction.segments
    labels: dict[str, Any] = (
        {"classes": classes_of(segments[0])}
        if per == "utterance"
        else {
            "segments": [
                {"start": each.start, "end": each.end, "classes": classes_of(each)}
                for each in segments
            ]
        }
    )
    named = {"key": predicted.key, "source": predicted.source}
    return {**named, "seconds": predicted.prediction.seconds, **labels}


def classes_of(segment: Segment) -> list[dict[str, Any]]:
    """Return the classes of a segment as a JSON document."""
    return [{"class": each.name, "score": each.score} for each in segment.classes]


def as_csv(predicted: Sequence[Predicted], per: Per) -> str:
    """Return CSV with the `COLUMNS`."""
    return csv_text([COLUMNS, *rows_of(predicted)])


def as_ctm(predicted: Sequence[Predicted], per: Per) -> str:
    """Return NIST's CTM: key, channel, begin, duration, class and score of every segment."""
    return "".join(
        f"{name} 1 {seconds(segment.start)} {seconds(segment.end - segment.start)} "
        f"{segment.name} {segment.score:.3f}\n"
        for name, each in zip(names_of(predicted), predicted, strict=True)
        for segment in each.prediction.segments
    )


def names_of(predicted: Sequence[Predicted]) -> list[str]:
    """Return the names of recordings: those of their files, where these differ, else their keys."""
    names = [Path(each.source).stem for each in predicted]
    if len(set(names)) == len(names) and all(map(PLAIN_NAME.fullmatch, names)):
        return names
    return [each.key for each in predicted]


def seconds(time: float) -> str:
    """Return a time as text."""
    return f"{time:.{TIME_DIGITS}f}"


TEXTS: dict[Format, Callable[[Sequence[Predicted], Per], str]] = {
    "table": as_table,
    "jsonl": as_json_lines,
    "csv": as_csv,
    "ctm": as_ctm,
}


def write_predictions(out: Path, predicted: Sequence[Predicted], format: Format, per: Per) -> None:
    """Write predictions into a folder: in one file, or, TextGrids, a file a recording."""
    if format == "textgrid":
        for name, each in zip(names_of(predicted), predicted, strict=True):
            write_text(out / f"{name}.TextGrid", textgrid(intervals_of(each.prediction)))
        return
    path = out / FILE_NAMES[format]
    if format == "parquet":
        with atomic_write(path) as stream:
            pq.write_table(as_arrow(predicted), stream)
    else:
        write_text(path, TEXTS[format](predicted, per))


def intervals_of(prediction: Prediction) -> list[PhoneInterval]:
    """Return the segments as intervals of a TextGrid."""
    return [PhoneInterval(each.start, each.end, each.name) for each in prediction.segments]


def as_arrow(predicted: Sequence[Predicted]) -> pa.Table:
    """Return a table of Arrow with the `COLUMNS`."""
    types = (pa.string(), pa.string(), pa.float64(), pa.float64())
    schema = pa.schema(zip(COLUMNS, (*types, pa.int32(), pa.string(), pa.float64()), strict=True))
    columns = zip(*rows_of(predicted), strict=True)
    return pa.table([pa.array(column) for column in columns], schema=schema)


def check_format(format: Format, per: Per, classes: Sequence[str]) -> None:
    """Raise `ConfigError` for a format that cannot hold the classes."""
    if format not in ("ctm", "textgrid"):
        return
    require(per != "utterance", f"{format} has times: it is for runs that classify frames")
    spaced = next((name for name in classes if name.split() != [name]), None)
    require(
        format != "ctm" or spaced is None,
        f"a line of CTM is divided at spaces, and the class '{spaced}' has one: use textgrid",
    )
