"""The pages of reports: single HTML files that load nothing, from templates in `templates/`."""

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from aalbert.common import palette
from aalbert.common.text import figure, figure_interval, flat, percent, visible


def listed(values: Mapping[str, object]) -> str:
    """Return names and values in one line: `numpy 2.1.0, torch 2.11.0`."""
    return ", ".join(f"{name} {value}" for name, value in flat(values))


def shown(value: object) -> object:
    """Return a value as a page shows it: a text with escapes for what is not printable.

    What a macro has made is text already.
    """
    return value if isinstance(value, Markup) else visible(str(value), kept="\n\t")


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
ENVIRONMENT.filters |= {
    "thousands": "{:,}".format,
    "percent": percent,
    "figure": figure,
    "figure_interval": figure_interval,
    "listed": listed,
}


def render_page(template: str, **values: Any) -> str:
    """Return a template rendered with values; all text in them is escaped.

    A picture is its `data:` address (`figures.to_data_uri`), a part that is left out is `None`.
    """
    return ENVIRONMENT.get_template(template).render(values)
