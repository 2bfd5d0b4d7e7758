"""The examples of the documents."""

import re
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"
BLOCK = re.compile(r"^```(?P<language>\w+)(?P<about>[^\n]*)\n(?P<code>.*?)^```$", re.M | re.S)


def examples_of(page: str) -> list[dict[str, str]]:
    """Return the `code` of every block of a page, its `language`, and what follows on that."""
    return [match.groupdict() for match in BLOCK.finditer((DOCS / page).read_text())]
