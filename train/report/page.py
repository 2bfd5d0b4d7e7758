"""The pages of reports: single HTML files that load nothing, from templates in `templates/`."""

import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from hashlib import sha256
from html import unescape
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from aalbert.common import palette
from aalbert.common.text import figure, figure_interval, flat, percent, visible


def listed(values: Mapping[str, object]) -> str:
    """Return names and values in one line: `numpy 2.1.0, torch 2.11.0`; empty ones are left out."""
    return ", ".join(
        f"{in_words(name)} {readable(value)}" for name, value in flat(values) if readable(value)
    )


def told(values: Mapping[str, object]) -> list[tuple[str, str]]:
    """Return names and values as people read them; what is empty is left out."""
    rows = [(in_words(name), readable(value)) for name, value in values.items()]
    return [(name, text) for name, text in rows if text]


def in_words(name: str) -> str:
    """Return the name of a setting in words: `speech hours`; another name stays as it is."""
    return re.sub(r"[_.]+", " ", name) if re.fullmatch(r"[a-z][a-z0-9_.]*", name) else name


def readable(value: object) -> str:
    """Return a value as people read it: rounded, `yes` or `no`, and nothing for what is empty."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}" if abs(value) >= 10_000 else str(value)
        case float():
            return f"{value:,.4g}" if abs(value) < 10_000 else f"{value:,.0f}"
        case Mapping():
            return listed(value)
        case list() | tuple():
            return ", ".join(text for each in value if (text := readable(each)))
    return str(value)


def shown(value: object) -> object:
    """Return a value as a page shows it: a text with escapes for what is not printable.

    What a macro has made is text already.
    """
    return value if isinstance(value, Markup) else visible(str(value), kept="\n\t")


def slug(title: str) -> str:
    """Return the place of a section for links: its title in small letters with dashes."""
    return "-".join(re.findall(r"[a-z0-9]+", title.lower()))


def contents(body: str) -> list[tuple[str, str]]:
    """Return the places and the titles of the sections of a page's HTML."""
    found = re.findall(r'<h2 id="([^"]*)">([^<]*)</h2>', body)
    return [(place, unescape(title)) for place, title in found]


def is_in_words(cell: object) -> bool:
    """Return whether a cell of a table is a text, which may be broken, not a number."""
    return re.match(r"\s*([<+-]?\s*\d|$)", str(cell)) is None


def css_width(source: str) -> int:
    """Return the width in CSS pixels of a PNG file as a `data:` address: two dots are one."""
    header = b64decode(source.partition(",")[2][:32])
    return int.from_bytes(header[16:20], "big") // 2


# A value that a template names and does not get is an error, not an empty text.
ENVIRONMENT = Environment(
    loader=PackageLoader("aalbert.train.report"),
    autoescape=True,
    finalize=shown,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
ENVIRONMENT.globals["palette"] = palette
ENVIRONMENT.tests["in_words"] = is_in_words
ENVIRONMENT.filters |= {
    "thousands": "{:,}".format,
    "percent": percent,
    "figure": figure,
    "figure_interval": figure_interval,
    "listed": listed,
    "told": told,
    "slug": slug,
    "contents": contents,
    "css_width": css_width,
}


def script_hash() -> str:
    """Return how a content security policy names the script of pages."""
    script = ENVIRONMENT.get_template("page.js").render()
    return "sha256-" + b64encode(sha256(script.encode()).digest()).decode("ascii")


ENVIRONMENT.globals["script_hash"] = script_hash()


def render_page(template: str, **values: Any) -> str:
    """Return a template rendered with values; all text in them is escaped.

    A picture is its `data:` address (`figures.png_uri`), a part that is left out is `None`.
    """
    return ENVIRONMENT.get_template(template).render(values)
