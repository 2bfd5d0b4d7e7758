"""Predictions as tables, JSON lines, CSV, Parquet, CTM and TextGrid."""

import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from aalbert.common.csv_text import csv_text
from aalbert.common.files import atomic_write, write_text
from aalbert.common.json_files import json_lines
from aalbert.common.text import number, text_table
from aalbert.common.textgrid import PhoneInterval, textgrid
from aalbert.errors import require
from aalbert.pipeline.embeddings.inputs import Recording
from aalbert.pipeline.prediction.prediction import Per, Prediction, Segment
from aalbert.shards.format.feature_settings import fingerprint

Format = Literal["table", "jsonl", "csv", "parquet", "ctm", "textgrid"]
# The columns of classes, and of numbers.
COLUMNS = ("key", "source", "start", "end", "rank", "class", "score")
NUMBER_COLUMNS = ("key", "source", "number")
# Phones last some 50 ms; a frame has 10.
TIME_DIGITS = 3
# Of files whose names are no trouble in a list that spaces divide, or in a folder.
PLAIN_NAME = re.compile(r"\w[\w.-]{0,99}", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """A recording by its key, its source and a name, and what was predicted of it.

    The `name` is what it has in formats that identify a recording by one word, or a file.
    """

    key: str
    source: str
    name: str
    prediction: Prediction


def names_of(recordings: Sequence[Recording]) -> dict[str, str]:
    """Return a name for the key of each recording: that of its file, where these differ.

    Else it is the key, with a hash where not every disk could tell two keys apart.
    """
    keys = [recording.key for recording in recordings]
    files = [Path(recording.source).stem for recording in recordings]
    hashed = [f"{key}-{fingerprint(key)}" for key in keys]
    plain = all(map(PLAIN_NAME.fullmatch, files))
    names = next(
        names
        for names in (*((files,) if plain else ()), keys, hashed)
        if len({name.lower() for name in names}) == len(names)
    )
    return dict(zip(keys, names, strict=True))


def rows_of(predicted: Sequence[Predicted]) -> Iterator[tuple[Any, ...]]:
    """Yield a row for each class of each segment, the best of rank 1, or for each number."""
    for each in predicted:
        if each.prediction.number is not None:
            yield each.key, each.source, each.prediction.number
        for segment in each.prediction.segments:
            for rank, scored in enumerate(segment.classes, start=1):
                times = (segment.start, segment.end)
                yield each.key, each.source, *times, rank, scored.name, scored.score


def as_table(predicted: Sequence[Predicted], per: Per) -> str:
    """Return a table for people: the recordings as they were given, scores with three digits."""
    if per == "number":
        numbers = [(source, number(value)) for _, source, value in rows_of(predicted)]
        return text_table([("recording", "number"), *numbers]) + "\n"
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
    """Return a JSON document a line for each recording, with `classes`, `segments` or a `number`.

    It is ASCII, which every terminal and pipe takes as it is.
    """
    return json_lines((as_document(each, per) for each in predicted), ascii=True)


def as_document(predicted: Predicted, per: Per) -> dict[str, Any]:
    """Return a recording's prediction as a JSON document."""
    prediction = predicted.prediction
    document = {
        "key": predicted.key,
        "source": predicted.source,
        "seconds": prediction.seconds,
    }
    if per == "number":
        return document | {"number": prediction.number}
    if per == "utterance":
        return document | {"classes": classes_of(prediction.segments[0])}
    segments = [
        {"start": each.start, "end": each.end, "classes": classes_of(each)}
        for each in prediction.segments
    ]
    return document | {"segments": segments}


def classes_of(segment: Segment) -> list[dict[str, Any]]:
    """Return the classes of a segment as a JSON document."""
    return [{"class": each.name, "score": each.score} for each in segment.classes]


def as_csv(predicted: Sequence[Predicted], per: Per) -> str:
    """Return CSV without a header."""
    return csv_text(rows_of(predicted))


def as_ctm(predicted: Sequence[Predicted], per: Per) -> str:
    """Return NIST's CTM: name, channel, begin, duration, class and score of every segment."""
    lines = []
    for each in predicted:
        for segment in each.prediction.segments:
            start, end = (round(time, TIME_DIGITS) for time in (segment.start, segment.end))
            times = f"{seconds(start)} {seconds(end - start)}"
            lines.append(f"{each.name} 1 {times} {segment.name} {segment.score:.3f}\n")
    return "".join(lines)


def seconds(time: float) -> str:
    """Return a time as text."""
    return f"{time:.{TIME_DIGITS}f}"


TEXTS: dict[Format, Callable[[Sequence[Predicted], Per], str]] = {
    "jsonl": as_json_lines,
    "csv": as_csv,
    "ctm": as_ctm,
}


def header(format: Format, per: Per) -> str:
    """Return the first line of a format; most have none."""
    return csv_text([columns_of(per)]) if format == "csv" else ""


def columns_of(per: Per) -> tuple[str, ...]:
    """Return the names of the columns of tables for programs."""
    return NUMBER_COLUMNS if per == "number" else COLUMNS


def write_part(
    out: Path, part: Path, predicted: Sequence[Predicted], format: Format, per: Per
) -> None:
    """Write some predictions into a file `part`, or, TextGrids, a file each into `out`."""
    if format == "textgrid":
        for each in predicted:
            intervals = intervals_of(each.prediction)
            write_text(out / f"{each.name}.TextGrid", textgrid(intervals))
    elif format == "parquet":
        with atomic_write(part) as stream:
            pq.write_table(as_arrow(predicted, per), stream)
    else:
        write_text(part, TEXTS[format](predicted, per))


def intervals_of(prediction: Prediction) -> list[PhoneInterval]:
    """Return segments as intervals without gaps; those between segments have no label."""
    intervals, reached = [], 0.0
    for segment in prediction.segments:
        if segment.start > reached:
            intervals.append(PhoneInterval(reached, segment.start, ""))
        intervals.append(PhoneInterval(segment.start, segment.end, segment.name))
        reached = segment.end
    if prediction.seconds > reached:
        intervals.append(PhoneInterval(reached, prediction.seconds, ""))
    return intervals


def join_parts(out: Path, parts: Sequence[Path], format: Format, per: Per) -> None:
    """Write the file of all predictions from its parts; TextGrids have none."""
    if format == "textgrid":
        return
    with atomic_write(out / f"predictions.{format}") as stream:
        if format == "parquet":
            with pq.ParquetWriter(stream, schema_of(per)) as writer:
                for part in parts:
                    writer.write_table(pq.read_table(part))
            return
        stream.write(header(format, per).encode())
        for part in parts:
            with part.open("rb") as content:
                shutil.copyfileobj(content, stream)


TYPES = {
    "key": pa.string(),
    "source": pa.string(),
    "start": pa.float64(),
    "end": pa.float64(),
    "rank": pa.int32(),
    "class": pa.string(),
    "score": pa.float64(),
    "number": pa.float64(),
}


def schema_of(per: Per) -> pa.Schema:
    """Return the names and the types of the columns."""
    return pa.schema([(name, TYPES[name]) for name in columns_of(per)])


def as_arrow(predicted: Sequence[Predicted], per: Per) -> pa.Table:
    """Return a table of Arrow."""
    schema = schema_of(per)
    columns = list(zip(*rows_of(predicted), strict=True)) or [()] * len(schema)
    return pa.table([pa.array(column) for column in columns], schema=schema)


def check_format(format: Format, per: Per, classes: Sequence[str]) -> None:
    """Raise `ConfigError` for a format that cannot hold the classes."""
    if format not in ("ctm", "textgrid"):
        return
    require(
        per in ("segment", "frame"),
        f"{format} has times: it is for runs that classify frames, or for --per segment",
    )
    spaced = next((name for name in classes if name.split() != [name]), None)
    require(
        format != "ctm" or spaced is None,
        f"a line of CTM is divided at spaces, and the class '{spaced}' has one: use textgrid",
    )
