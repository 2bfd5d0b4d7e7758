"""Text as Markdown."""

import re


def cell(text: str) -> str:
    """Return plain text as the cell of a table, in which no character means anything."""
    return re.sub(r"([\\`*_{}\[\]<>|#])", r"\\\1", " ".join(text.split()))
