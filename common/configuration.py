"""One validated configuration from flags, environment, files and presets."""

import difflib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import TypeAdapter, ValidationError

from aalbert.common.json_files import MOST_DEPTH, first_fault
from aalbert.common.notes import detail, note
from aalbert.common.settings_text import (
    MOST_BYTES,
    Document,
    dump_document,
    parse_document,
    parse_value,
)
from aalbert.common.text_files import read_text
from aalbert.errors import ConfigError, InputError, require

ENVIRONMENT_PREFIX = "AALBERT_"
# Where a value comes from, the path of its setting, and the value.
Assignment = tuple[str, Sequence[str], Any]
Config = TypeVar("Config")


def load_config(
    kind: type[Config],
    *,
    preset: tuple[str, Document] | None = None,
    work: tuple[str, Document] | None = None,
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    assignments: Sequence[str] = (),
) -> Config:
    """Merge the sources of settings, later ones winning, and validate the result.

    The order is default, preset (its name in messages, and its settings), those of a piece of
    work likewise, file, environment (`AALBERT_OPTIMISER__LEARNING_RATE`), and then assignments
    (`optimiser.learning_rate=5e-4`). A group that is set in part has its class's defaults for the
    rest. Raises `ConfigError` that names the setting when one
    is unknown or has no valid value.
    """
    document: Document = {}
    in_file = (str(file), read_yaml_file(file)) if file else None
    for source, layer in filter(None, (preset, work, in_file)):
        detail(f"settings of {source}: {', '.join(map(str, layer)) or 'none'}")
        check(kind, layer, source)
        lay_over(kind, document, layer)
    variables = list(read_environment(kind, os.environ if environment is None else environment))
    for source, path, value in (*variables, *read_assignments(assignments)):
        check(kind, nest(path, value), source)
        assign(kind, document, path, value)
    with naming_variables(variables):
        return validate(kind, document)


def validate(kind: type[Config], document: Document) -> Config:
    """Return the settings of a document; `ConfigError` names one that has no valid value."""
    try:
        # Strictly: no text, number or boolean is taken for another. From JSON, lists are tuples.
        return TypeAdapter(kind).validate_json(json.dumps(whole_numbers(document)), strict=True)
    except ValidationError as error:
        message, first = first_fault(error), error.errors()[0]
        given = first["input"]
        if first["type"] == "string_type" and isinstance(given, (int, float)):
            message += f"; in quotes it is text: '\"{given}\"'"
        raise ConfigError(message) from error


def json_schema(kind: type) -> dict[str, Any]:
    """Return the JSON schema of settings, without references; other names are not allowed."""
    schema = TypeAdapter(kind).json_schema()
    groups = schema.pop("$defs", {})

    def whole(part: Any) -> Any:
        if isinstance(part, list):
            return [whole(each) for each in part]
        if not isinstance(part, dict):
            return part
        if "$ref" in part:
            part = {**groups[part["$ref"].rpartition("/")[2]], **part}
        closed = {"additionalProperties": False} if "properties" in part else {}
        return {name: whole(each) for name, each in part.items() if name != "$ref"} | closed

    document: dict[str, Any] = whole(schema)
    return document


@contextmanager
def naming_variables(variables: Sequence[Assignment]) -> Iterator[None]:
    """Add to an error about settings the environment variables that set them, which nobody sees."""
    try:
        yield
    except ConfigError as error:
        named = [name for name, path, _ in variables if ".".join(path) in str(error)]
        raise ConfigError(
            f"{error} (set by {', '.join(named)})" if named else str(error)
        ) from error


def whole_numbers(value: Any) -> Any:
    """Return a document in which a whole number is one however it is written, such as 1e5.

    One of more than 64 bits is a number like any other, and so no valid count.
    """
    if isinstance(value, Mapping):
        return {name: whole_numbers(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [whole_numbers(inner) for inner in value]
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return float(value) if abs(value) < 2**1023 else math.inf
    whole = isinstance(value, float) and value.is_integer() and abs(value) < 2**53
    return int(value) if whole else value


def read_yaml_file(path: Path) -> Document:
    """Read a configuration file."""
    if not path.is_file():
        raise InputError(f"there is no configuration file {path}")
    size = path.stat().st_size
    require(size <= MOST_BYTES, f"{path}: {size:,} bytes are no settings: name another file")
    return parse_document(read_text(path), str(path))


def read_environment(kind: type, environment: Mapping[str, str]) -> Iterator[Assignment]:
    """Read `AALBERT_A__B=value` variables as settings `a.b`.

    Variables may be set for several commands at once, so one that names no setting of
    this command is ignored with a note.
    """
    known = {item.name for item in fields(kind)}
    for variable, value in sorted(environment.items()):
        if not variable.startswith(ENVIRONMENT_PREFIX):
            continue
        path = variable.removeprefix(ENVIRONMENT_PREFIX).lower().split("__")
        if path[0] in known:
            yield variable, path, parse_value(value, variable)
        else:
            note(f"note: {variable} is not a setting of this command")


def read_assignments(assignments: Sequence[str]) -> Iterator[Assignment]:
    """Parse `a.b=value` texts."""
    for assignment in assignments:
        path, equals, value = assignment.partition("=")
        if not equals:
            raise ConfigError(f"--set {assignment}: expected NAME=VALUE, such as steps=1000")
        yield "--set", path.strip().split("."), parse_value(value, f"--set {path}")


def nest(path: Sequence[str], value: Any) -> Document:
    """Return `{"a": {"b": value}}` for the path `a, b`."""
    require(len(path) <= MOST_DEPTH, f"{'.'.join(path)[:60]}...: no setting lies so deep")
    for name in reversed(path):
        value = {name: value}
    result: Document = value
    return result


def lay_over(kind: type, document: Document, layer: Mapping[str, Any]) -> None:
    """Update `document` with the settings of `layer`, group by group, in place.

    A mapping that is no group, whose keys are free, is replaced as a whole.
    """
    for name, value in layer.items():
        assign(kind, document, [name], value)


def assign(kind: type | None, document: Document, path: Sequence[str], value: Any) -> None:
    """Give the setting at a path a value, in place; a path may lead into a mapping of free keys."""
    name, *rest = path
    group = None if kind is None else group_type(annotations(kind)[name])
    if rest or (group is not None and isinstance(value, Mapping)):
        inner = document.get(name)
        document[name] = inner = dict(inner) if isinstance(inner, Mapping) else {}
        if rest:
            assign(group, inner, rest, value)
        else:
            assert group is not None
            lay_over(group, inner, value)
    else:
        document[name] = value


def annotations(kind: type) -> dict[str, Any]:
    """Return the type of every setting of a group."""
    return {item.name: item.type for item in fields(kind)}


def check(kind: type, document: Mapping[str, Any], source: str, prefix: str = "") -> None:
    """Raise `ConfigError` for an unknown setting, with the nearest known name."""
    if not isinstance(document, Mapping):
        inside = next(iter(annotations(kind)))
        raise ConfigError(
            f"{source}: {prefix.rstrip('.')} is a group of settings, such as {prefix}{inside}"
        )
    known = annotations(kind)
    for name, value in document.items():
        if name not in known:
            close = difflib.get_close_matches(str(name), known, n=1)
            hint = f"did you mean {prefix}{close[0]}?" if close else f"it has {', '.join(known)}"
            raise ConfigError(f"{source}: there is no setting '{prefix}{name}': {hint}")
        inner = group_type(known[name])
        if inner is not None and value is not None:
            check(inner, value, source, f"{prefix}{name}.")


def group_type(annotation: Any) -> type | None:
    """Return the dataclass that an annotation means, alone or in `Settings | None`."""
    choices = get_args(annotation) or (annotation,)
    return next((kind for kind in choices if isinstance(kind, type) and is_dataclass(kind)), None)


def to_yaml(config: Any) -> str:
    """Return a configuration as YAML that `load_config` reads back."""
    return dump_document(as_plain(asdict(config)))


def as_plain(value: Any) -> Any:
    """Convert tuples to lists, which YAML can represent."""
    if isinstance(value, dict):
        return {name: as_plain(inner) for name, inner in value.items()}
    return [as_plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value
