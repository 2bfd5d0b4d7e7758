"""lhotse's cuts: JSON lines, each a part of a recording with its supervisions.

The format is that of lhotse 1.33 (`CutSet.to_file`): `cuts.jsonl` or `cuts.jsonl.gz`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from aalbert.errors import InputError
from aalbert.pipeline.corpora.names import key_of_id
from aalbert.pipeline.corpora.tables.table import Row, Table, Values

CUT_TYPES = ("MonoCut", "MultiCut", "MixedCut", "PaddingCut")
COLUMNS = ("path", "key", "speaker", "start", "end", "gender", "language", "text")
LABELS = ("speaker", "gender", "language")
TIME_DECIMALS = 8

Document = Mapping[str, Any]


def is_cut(document: Document) -> bool:
    """Return whether a JSON object is a cut."""
    return document.get("type") in CUT_TYPES and "id" in document


def read_cuts(objects: Iterable[tuple[str, Document]]) -> Table:
    """Return cuts as a table; those that are no plain part of one file are rows without use.

    Raises `InputError` for an object that is not a cut.
    """
    return Table(
        columns=COLUMNS, rows=tuple(cut_row(place, document) for place, document in objects)
    )


def cut_row(place: str, cut: Document) -> Row:
    """Return the row of a cut."""
    if not is_cut(cut):
        raise InputError(f"{place} is no cut, unlike the first line: it has {', '.join(cut)}")
    name = str(cut["id"])
    values: Values = dict.fromkeys(COLUMNS)
    values |= {"path": name, "key": key_of_id(name)}
    try:
        if (reason := refusal(cut)) is not None:
            return Row(place=place, values=values, unusable=reason)
        values |= {"path": cut["recording"]["sources"][0]["source"], **times_of(cut)}
        values |= labels_of(cut.get("supervisions") or ())
        for column, value in values.items():
            if not isinstance(value, str | None):
                raise TypeError(f"{column} is a {type(value).__name__}")
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise InputError(
            f"{place} is not a cut as lhotse writes it: {type(error).__name__}: {error}"
        ) from error
    return Row(place=place, values=values)


def refusal(cut: Document) -> str | None:
    """Return why a cut is no plain part of one file; None when it is one."""
    if cut["type"] not in ("MonoCut", "MultiCut"):
        return f"is a {cut['type']}: save its audio with lhotse first"
    recording = cut.get("recording")
    if not isinstance(recording, dict):
        return "is a cut without a recording"
    sources: list[Document] = recording.get("sources") or []
    if len(sources) != 1 or sources[0].get("type") != "file":
        kinds = ", ".join(str(source.get("type")) for source in sources)
        return f"is no recording in one file: its sources are {kinds}"
    if recording.get("transforms"):
        return "is changed when it is read (transforms): save its audio with lhotse first"
    channels = cut.get("channel")
    taken = channels if isinstance(channels, list) else [channels]
    if len(sources[0].get("channels") or taken) != len(taken):
        return "is one channel of several: save its audio with lhotse first"
    return None


def times_of(cut: Document) -> Values:
    """Return where a cut starts and ends in its recording; an end of None is the recording's."""
    start, duration = float(cut["start"]), float(cut["duration"])
    end = round(start + duration, TIME_DECIMALS)
    recording = cut["recording"]
    at_its_end = end >= float(recording["duration"]) - 0.5 / float(recording["sampling_rate"])
    return {"start": str(start), "end": None if at_its_end else str(end)}


def labels_of(supervisions: Iterable[Document]) -> Values:
    """Return the labels on which all supervisions of a cut agree, and their texts together."""
    labels: Values = {}
    for name in LABELS:
        found = {supervision.get(name) for supervision in supervisions} - {None}
        labels[name] = found.pop() if len(found) == 1 else None
    texts = [supervision["text"] for supervision in supervisions if supervision.get("text")]
    return {**labels, "text": " ".join(texts) or None}
