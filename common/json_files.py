"""JSON and lines of JSON, read in one way: bounded, of the expected types, with one error.

A file that is cut off, was changed, or was written by something else is an error that names the
place in it and the way out, whatever it holds.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from aalbert.errors import AalbertError, ConfigError, IntegrityError

# It takes long to import, and neither `aalbert --help` nor the workers of `prepare` need it.
if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError
    from pydantic_core.core_schema import CoreSchema

Record = TypeVar("Record")
# A file beyond them is none of this package.
MOST_BYTES = 2**28
MOST_DEPTH = 50
# Of an integer, so that it is one for NumPy and Arrow too.
SMALLEST, LARGEST = -(2**63), 2**63 - 1
SHOWN_CHARACTERS = 60
# What a character beyond 16 bits is escaped as has two of them; one alone is no text.
SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


@dataclass(frozen=True)
class Matching:
    """In `Annotated`: the regular expression that a text matches."""

    pattern: str

    def __get_pydantic_core_schema__(self, *_: Any) -> "CoreSchema":
        """Return what pydantic checks; it asks for this when something is read."""
        from pydantic_core.core_schema import str_schema

        return str_schema(pattern=self.pattern)


@dataclass(frozen=True)
class ReadBy:
    """In `Annotated`: what makes a value of that in JSON; it raises `ConfigError` if it cannot."""

    read: Callable[[Any], Any]

    def __get_pydantic_core_schema__(self, *_: Any) -> "CoreSchema":
        """Return how pydantic makes it; it asks for this when something is read."""
        from pydantic_core.core_schema import no_info_plain_validator_function

        return no_info_plain_validator_function(self.read)


def read_record(
    kind: type[Record], path: Path, way_out: str, error: type[AalbertError] = IntegrityError
) -> Record:
    """Return the JSON document of a file as a `kind`; see `parse_record`."""
    with naming_damage(str(path), way_out, error):
        content = read_bounded(path)
    return parse_record(kind, content, str(path), way_out, error)


def parse_record(
    kind: type[Record],
    content: bytes,
    place: str,
    way_out: str,
    error: type[AalbertError] = IntegrityError,
) -> Record:
    """Return a JSON document as a `kind`: a dataclass, or a type such as `dict[str, Any]`.

    Every other content is an `error` that names `place` and ends with the way out.
    """
    with naming_damage(place, way_out, error):
        return as_record(kind, parse_json(content))


def read_records(
    kind: type[Record], path: Path, way_out: str, error: type[AalbertError] = IntegrityError
) -> list[Record]:
    """Return the lines of a file, each a JSON document, as `kind`s; see `parse_records`."""
    with naming_damage(str(path), way_out, error):
        content = read_bounded(path)
    return parse_records(kind, content, str(path), way_out, error)


def parse_records(
    kind: type[Record],
    content: bytes,
    place: str,
    way_out: str,
    error: type[AalbertError] = IntegrityError,
) -> list[Record]:
    """Return lines of JSON as `kind`s; an error names the line."""
    lines = content.removesuffix(b"\n").split(b"\n") if content else []
    return [
        parse_record(kind, line, f"{place}:{number}", way_out, error)
        for number, line in enumerate(lines, start=1)
    ]


def read_bounded(path: Path) -> bytes:
    """Return the bytes of a file; `ValueError` when it is too large to be read as a whole."""
    with path.open("rb") as stream:
        content = stream.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError(f"more than {MOST_BYTES:,} bytes")
    return content


def json_lines(documents: Iterable[Any], *, ascii: bool = False) -> str:
    """Return JSON documents, one per line."""
    return "".join(json.dumps(each, ensure_ascii=ascii) + "\n" for each in documents)


def parse_json(content: str | bytes, **conversions: Any) -> Any:
    """Return a JSON document; every other content is a `ValueError`.

    Stricter than Python: no NaN, no infinity, no integer of more than 64 bits, no name twice, no
    half of a surrogate pair, and no nesting beyond `MOST_DEPTH`. `conversions` of `json.loads` go
    over those of numbers.
    """
    text = content if isinstance(content, str) else content.decode("utf-8")
    try:
        document = json.loads(
            text,
            **{
                "parse_int": whole_number,
                "parse_float": finite_number,
                "parse_constant": refuse_constant,
                "object_pairs_hook": named_once,
                **conversions,
            },
        )
        deep = is_deep(document)
    except RecursionError:
        deep = True
    if deep:
        raise ValueError(f"nested more than {MOST_DEPTH} deep")
    if SURROGATE.search(text):
        require_whole_characters(document)
    return document


def require_whole_characters(document: Any) -> None:
    """Raise `ValueError` when a text of the document holds half a surrogate pair."""
    try:
        json.dumps(document, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError("half a surrogate pair is no text") from error


def whole_number(digits: str) -> int:
    """Return an integer; `ValueError` when it has more than 64 bits."""
    if len(digits) > 20 or not SMALLEST <= int(digits) <= LARGEST:
        raise ValueError(f"an integer of {len(digits):,} digits is too large")
    return int(digits)


def finite_number(digits: str) -> float:
    """Return a number with a fraction or an exponent; `ValueError` when it is too large."""
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits[:SHOWN_CHARACTERS]} is too large")
    return number


def refuse_constant(name: str) -> NoReturn:
    """Raise `ValueError` for NaN and infinities, which JSON does not have."""
    raise ValueError(f"{name} is no JSON")


def named_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object; `ValueError` when a name is in it twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is given twice")
    return found


def is_deep(document: Any) -> bool:
    """Return whether a document is nested beyond `MOST_DEPTH`."""
    level: list[Any] = [[document]]
    for _ in range(MOST_DEPTH + 1):
        level = [
            inner
            for each in level
            for inner in (each.values() if isinstance(each, dict) else each)
            if isinstance(inner, (dict, list))
        ]
    return bool(level)


def as_record(kind: type[Record], document: Any) -> Record:
    """Return a JSON document as a `kind`; `ValueError` names the first value of another type.

    No text, number or boolean is taken for another, and no name is ignored. Lists become tuples
    where `kind` has these. A dataclass may raise `ConfigError` for what it cannot hold.
    """
    from pydantic import ValidationError

    text = json.dumps(document, ensure_ascii=False).encode("utf-8")
    try:
        validator = adapter(kind)  # type: ignore[arg-type]
        record: Record = validator.validate_json(text, strict=True, extra="forbid")
    except ValidationError as error:
        raise ValueError(first_fault(error)) from error
    return record


@lru_cache
def adapter(kind: Any) -> "TypeAdapter[Any]":
    """Return what validates a type; making it takes milliseconds."""
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


# The simple types of unions of settings, as pydantic names them.
TYPES_TRIED = ("str", "int")


def first_fault(error: "ValidationError") -> str:
    """Return what is wrong with the first value that is of another type than its place has.

    Of a union every type that was tried has faults: that of the value inside says the most.
    """
    faults = error.errors(include_url=False)
    places = [named_place(fault["loc"]) for fault in faults]
    first = places[0]
    inside = [number for number, place in enumerate(places) if place[: len(first)] == first]
    deepest = max(inside, key=lambda number: len(places[number]))
    fault, place = faults[deepest], ".".join(places[deepest])
    if fault["type"] == "missing":
        return f"{place} is missing"
    given = repr(fault["input"])
    shown = given if len(given) <= SHOWN_CHARACTERS else f"{given[:SHOWN_CHARACTERS]}..."
    return f"{place or 'the document'} = {shown}: {fault['msg']}"


def named_place(parts: Sequence[int | str]) -> list[str]:
    """Return the names and numbers that lead to a value.

    For a union, pydantic adds the type that it tried, which is no part of the name.
    """
    names = [str(part) for part in parts]
    return [name for name in names if "[" not in name and name not in TYPES_TRIED]


@contextmanager
def naming_damage(
    place: str, way_out: str, error: type[AalbertError] = IntegrityError
) -> Iterator[None]:
    """Turn what reading raises into an `error` that names the place and the way out."""
    try:
        yield
    except (ValueError, ConfigError) as fault:
        reason = " ".join(str(fault).split())
        raise error(f"{place} is damaged ({reason}); {way_out}") from fault
