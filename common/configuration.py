"""One validated configuration from flags, environment, files and presets."""

import difflib
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import TypeAdapter, ValidationError
from yaml.constructor import ConstructorError

from aalbert.errors import ConfigError, InputError

ENVIRONMENT_PREFIX = "AALBERT_"
# Types of a value on the command line besides text.
VALUE_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("bool", "int", "float", "null")}
NO_ALIASES = "YAML aliases (*name) are not allowed; a pattern that begins with * needs quotes"

Document = dict[str, Any]
Config = TypeVar("Config")


def load_config(
    kind: type[Config],
    *,
    preset: tuple[str, Document] | None = None,
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    assignments: Sequence[str] = (),
) -> Config:
    """Merge the sources of settings, later ones winning, and validate the result.

    The order is default, preset (its name in messages, and its settings), file,
    environment (`AALBERT_OPTIMISER__LEARNING_RATE`), and then assignments
    (`optimiser.learning_rate=5e-4`). A group that is set in part has its class's defaults for the
    rest. Raises `ConfigError` that names the setting when one
    is unknown or has no valid value.
    """
    document: Document = {}
    for source, layer in (
        preset or ("preset", {}),
        (str(file), read_yaml_file(file) if file else {}),
        (
            "the environment",
            read_environment(kind, os.environ if environment is None else environment),
        ),
        ("--set", read_assignments(assignments)),
    ):
        check_known(kind, layer, source)
        merge(document, layer)
    try:
        return TypeAdapter(kind).validate_python(document)
    except ValidationError as error:
        first = error.errors()[0]
        # For a union, pydantic adds the type that it tried, which is no part of the name.
        place = ".".join(str(part) for part in first["loc"] if "[" not in str(part))
        raise ConfigError(f"{place} = {first['input']!r}: {first['msg']}") from error


def read_yaml_file(path: Path) -> Document:
    """Read a configuration file."""
    if not path.is_file():
        raise InputError(f"there is no configuration file {path}")
    try:
        return parse_yaml(path.read_text("utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not text in UTF-8: {error}") from error


def read_environment(kind: type, environment: Mapping[str, str]) -> Document:
    """Read `AALBERT_A__B=value` variables as settings `a.b`.

    Variables may be set for several commands at once, so one that names no setting of
    this command is ignored with a note.
    """
    known = {item.name for item in fields(kind)}
    document: Document = {}
    for variable, value in sorted(environment.items()):
        if not variable.startswith(ENVIRONMENT_PREFIX):
            continue
        path = variable.removeprefix(ENVIRONMENT_PREFIX).lower().split("__")
        if path[0] in known:
            merge(document, nest(path, parse_value(value, variable)))
        else:
            print(f"note: {variable} is not a setting of this command", file=sys.stderr)
    return document


def read_assignments(assignments: Sequence[str]) -> Document:
    """Parse `a.b=value` texts; later ones win."""
    document: Document = {}
    for assignment in assignments:
        path, equals, value = assignment.partition("=")
        if not equals:
            raise ConfigError(f"--set {assignment}: expected NAME=VALUE, such as steps=1000")
        merge(document, nest(path.strip().split("."), parse_value(value, f"--set {path}")))
    return document


def nest(path: Sequence[str], value: Any) -> Document:
    """Return `{"a": {"b": value}}` for the path `a, b`."""
    for name in reversed(path):
        value = {name: value}
    result: Document = value
    return result


def merge(document: Document, layer: Mapping[str, Any]) -> None:
    """Update `document` with the values of `layer`, group by group, in place."""
    for name, value in layer.items():
        if isinstance(value, Mapping) and isinstance(document.get(name), dict):
            merge(document[name], value)
        else:
            document[name] = value


def check_known(kind: type, document: Mapping[str, Any], source: str, prefix: str = "") -> None:
    """Raise `ConfigError` for an unknown setting, with the nearest known name."""
    if not isinstance(document, Mapping):
        raise ConfigError(f"{source}: {prefix.rstrip('.')} must be a group of settings")
    known = {item.name: item.type for item in fields(kind)}
    for name, value in document.items():
        if name not in known:
            close = difflib.get_close_matches(str(name), known, n=1)
            hint = f"did you mean {prefix}{close[0]}?" if close else f"it has {', '.join(known)}"
            raise ConfigError(f"{source}: there is no setting '{prefix}{name}': {hint}")
        inner = group_type(known[name])
        if inner is not None and value is not None:
            check_known(inner, value, source, f"{prefix}{name}.")


def group_type(annotation: Any) -> type | None:
    """Return the dataclass that an annotation means, alone or in `Settings | None`."""
    choices = get_args(annotation) or (annotation,)
    return next((kind for kind in choices if isinstance(kind, type) and is_dataclass(kind)), None)


class StrictLoader(yaml.SafeLoader):
    """YAML in which `5e-4` is a number and a key given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping, refusing duplicate keys."""
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise ConstructorError(None, None, f"'{key}' is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+"),
    list("-+.0123456789"),
)


class WordLoader(StrictLoader):
    """YAML in which a word may begin with any character, also *, & or !: `[*-clean, dev-*]`."""

    fetch_alias = fetch_anchor = fetch_tag = StrictLoader.fetch_plain
    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag in VALUE_TAGS]
        for first, resolvers in StrictLoader.yaml_implicit_resolvers.items()
    }


def parse_yaml(text: str, source: str) -> Document:
    """Parse a YAML document that is a mapping."""
    document = parse_yaml_value(text, source)
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError(f"{source}: expected 'name: value' lines")
    return document


def parse_yaml_value(text: str, source: str) -> Any:
    """Parse any YAML value; aliases, which can grow without bound, are refused."""
    with naming_source(source):
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
            raise ConfigError(f"{source}: {NO_ALIASES}")
        return yaml.load(text, StrictLoader)  # noqa: S506 - StrictLoader is a SafeLoader


def parse_value(text: str, source: str) -> Any:
    """Parse the value of a flag or a variable: a word, a number, or a YAML list or group.

    A word may begin with any character, so it can be a pattern such as `*`.
    """
    text = text.strip()
    with naming_source(source):
        if text.startswith(("[", "{", "'", '"')):
            return yaml.load(text, WordLoader)  # noqa: S506 - WordLoader is a SafeLoader
        loader = WordLoader("")
        tag = loader.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
        return loader.construct_object(yaml.ScalarNode(tag, text))


@contextmanager
def naming_source(source: str) -> Iterator[None]:
    """Turn errors of YAML into `ConfigError` that names the source."""
    try:
        yield
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        alias = getattr(error, "context", None) == "while scanning an alias"
        reason = NO_ALIASES if alias else " ".join(str(error).split())
        raise ConfigError(f"{source}: {reason}") from error


def to_yaml(config: Any) -> str:
    """Return a configuration as YAML that `load_config` reads back."""
    return yaml.safe_dump(as_plain(asdict(config)), sort_keys=False)


def as_plain(value: Any) -> Any:
    """Convert tuples to lists, which YAML can represent."""
    if isinstance(value, dict):
        return {name: as_plain(inner) for name, inner in value.items()}
    return [as_plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value
