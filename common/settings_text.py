"""YAML as settings are written in it: the core schema of YAML 1.2, in files, flags and variables.

PyYAML reads YAML 1.1, in which `010` is 8, `8:20` is 500 and `yes` is true.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import yaml
from yaml.constructor import ConstructorError

from aalbert.common.json_files import MOST_DEPTH
from aalbert.errors import ConfigError

NO_ALIASES = "YAML aliases (*name) are not allowed; a pattern that begins with * needs quotes"
# Section 10.3.2 of YAML 1.2.2: what a plain scalar means, and the characters it may begin with.
CORE_SCHEMA = (
    ("null", r"null|Null|NULL|~|", ("n", "N", "~", "")),
    ("bool", r"true|True|TRUE|false|False|FALSE", tuple("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", tuple("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        tuple("-+.0123456789"),
    ),
)
# Of an integer; a float64 has 309 at most.
MOST_DIGITS = 400
# Settings take a few thousand characters; PyYAML reads them slowly.
MOST_CHARACTERS = 2**17
# Of their file, whose characters may take four bytes each.
MOST_BYTES = 4 * MOST_CHARACTERS
TAG = "tag:yaml.org,2002:"
BASES = {"0o": 8, "0x": 16}
Document = dict[str, Any]


class CoreLoader(yaml.SafeLoader):
    """YAML of the core schema without aliases, in which a key given twice is an error.

    Aliases can grow without bound. Both they and deep nesting, which takes PyYAML seconds, are
    refused where they are scanned.
    """

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
    # Dates, bytes and sets are not in it.
    yaml_constructors = {
        tag: yaml.SafeLoader.yaml_constructors[tag]
        for tag in (None, *(TAG + name for name in ("null", "bool", "float", "str", "seq", "map")))
    }

    def fetch_alias(self) -> None:
        """Refuse an alias."""
        raise ValueError(NO_ALIASES)

    def fetch_flow_collection_start(self, TokenClass: type[yaml.Token]) -> None:  # noqa: N803
        """Begin a list in [] or a group in {}."""
        require_shallow(self.flow_level + len(self.indents))
        super().fetch_flow_collection_start(TokenClass)

    def add_indent(self, column: int) -> bool:
        """Begin a list or a group of lines."""
        require_shallow(len(self.indents))
        return bool(super().add_indent(column))

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping, refusing duplicate keys."""
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise ConstructorError(None, None, f"'{key}' is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_int(self, node: yaml.ScalarNode) -> int:
        """Build an integer, decimal unless it begins with `0o` or `0x`."""
        if len(node.value) > MOST_DIGITS:
            raise ValueError(f"a number of {len(node.value):,} digits is no setting")
        return int(node.value, BASES.get(node.value[:2], 10))


class CoreDumper(yaml.SafeDumper):
    """Text in quotes where either the core schema or YAML 1.1 would read something else."""


for name, pattern, first_characters in CORE_SCHEMA:
    for kind in (CoreLoader, CoreDumper):
        kind.add_implicit_resolver(TAG + name, re.compile(rf"(?:{pattern})\Z"), first_characters)
CoreLoader.add_constructor(f"{TAG}int", CoreLoader.construct_int)


def require_shallow(depth: int) -> None:
    """Raise `ValueError` for one more list or group inside so many."""
    if depth >= MOST_DEPTH:
        raise ValueError(f"nested more than {MOST_DEPTH} deep")


class WordLoader(CoreLoader):
    """YAML in which a word may begin with any character, also *, & or !: `[*-clean, dev-*]`."""

    fetch_alias = fetch_anchor = fetch_tag = CoreLoader.fetch_plain


def parse_document(text: str, source: str) -> Document:
    """Parse a YAML document that is a mapping; `source` names it in `ConfigError`."""
    with naming_source(source):
        require_short(text)
        document = yaml.load(text, CoreLoader)  # noqa: S506 - CoreLoader is a SafeLoader
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError(f"{source}: expected 'name: value' lines")
    return document


def parse_value(text: str, source: str) -> Any:
    """Parse the value of a flag or a variable: a word, a number, or a YAML list or group.

    A word may begin with any character, so it can be a pattern such as `*`.
    """
    text = text.strip()
    with naming_source(source):
        require_short(text)
        if text.startswith(("[", "{", "'", '"')):
            return yaml.load(text, WordLoader)  # noqa: S506 - WordLoader is a SafeLoader
        loader = WordLoader("")
        tag = loader.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
        return loader.construct_object(yaml.ScalarNode(tag, text))


def dump_document(document: Document) -> str:
    """Return a document as YAML that `parse_document` reads back."""
    return yaml.dump(document, Dumper=CoreDumper, sort_keys=False)


def require_short(text: str) -> None:
    """Raise `ValueError` for a text that is too long for settings."""
    if len(text) > MOST_CHARACTERS:
        raise ValueError(
            f"{len(text):,} characters are no settings, these have {MOST_CHARACTERS:,}"
        )


@contextmanager
def naming_source(source: str) -> Iterator[None]:
    """Turn errors of YAML into `ConfigError` that names the source."""
    try:
        yield
    except (yaml.YAMLError, KeyError, ValueError, TypeError) as error:
        raise ConfigError(f"{source}: {' '.join(str(error).split())}") from error


def merge(document: Document, layer: Mapping[str, Any]) -> None:
    """Update `document` with the values of `layer`, mapping by mapping, in place."""
    for name, value in layer.items():
        if isinstance(value, Mapping) and isinstance(document.get(name), dict):
            merge(document[name], value)
        else:
            document[name] = value
