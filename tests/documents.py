"""The documents of the repository, as they are written."""

import json
import re
import unicodedata
from pathlib import Path

ROOT = Path(__file__).parent.parent
NOTEBOOKS = tuple(sorted((ROOT / "docs" / "notebooks").glob("*.ipynb")))
DOCUMENTS = (
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *(ROOT / folder / "README.md" for folder in ("benchmarks", "shards", "tests/soak")),
    *NOTEBOOKS,
)
BLOCK = re.compile(r"^```.*?^```$", re.M | re.S)


def markdown_of(document: Path) -> str:
    """Return the text of a document; that of a notebook without its code."""
    text = document.read_text()
    if document.suffix == ".md":
        return text
    cells = json.loads(text)["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def anchors_of(document: Path) -> set[str]:
    """Return the anchors of the headings of a document, as forges make them."""
    text = BLOCK.sub("", markdown_of(document))
    return {anchor(heading) for heading in re.findall(r"^#+ (.*)$", text, re.M)}


def anchor(heading: str) -> str:
    """Return the anchor of a heading: small letters, digits, - and _, with - for each blank."""
    letters = (
        "-" if each == " " else each
        for each in heading.lower()
        if each in " -_" or unicodedata.category(each)[0] in "LN"
    )
    return "".join(letters)
