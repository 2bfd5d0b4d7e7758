"""Where the files of the repository are on the site, and their links there.

The documents link each other as files of the repository, which a forge shows; the site has some of
them in other places.
"""

import posixpath
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
# Those beside `docs/`, by their place on the site. The others are where they are in `docs/`.
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "benchmarks/README.md": "benchmarks.md",
    "shards/README.md": "shard-format.md",
    "tests/soak/README.md": "soak.md",
    "docs/notebooks/features_and_shards.ipynb": "notebooks/features_and_shards.md",
    "docs/notebooks/model_and_layers.ipynb": "notebooks/model_and_layers.md",
}
FILES = {"CITATION.cff": "CITATION.cff"}
# A link in Markdown, or a block of code, in which nothing is a link.
# What follows on the language of a block is for the tests of the documents.
FENCE = re.compile(r"^```(\w+) .*$", re.M)
LINK = re.compile(r"^```.*?^```$|`[^`\n]*`|\]\((?P<target>[^)\s]+)\)", re.M | re.S)


def is_elsewhere(target: str) -> bool:
    """Tell whether a link leads out of the repository, or stays on its page."""
    return target.startswith("#") or bool(re.match(r"[a-z]+:", target))


def links_of(text: str) -> list[str]:
    """Return the targets of the links of a document in Markdown."""
    return [found["target"] for found in LINK.finditer(text) if found["target"]]


def place_on_site(file: str) -> str:
    """Return the place on the site of a file of the repository; `KeyError` when it has none."""
    if file in PAGES or file in FILES:
        return (PAGES | FILES)[file]
    if not file.startswith("docs/"):
        raise KeyError(f"{file} is not on the site: add it to website/pages.py, or do not link it")
    return file.removeprefix("docs/")


def as_page(text: str, file: str) -> str:
    """Return the text of a file of the repository as the site has it, with its links there."""
    folder = posixpath.dirname(place_on_site(file))

    def replaced(found: re.Match[str]) -> str:
        target = found["target"]
        if target is None or is_elsewhere(target):
            return found[0]
        path, mark, anchor = target.partition("#")
        named = posixpath.normpath(posixpath.join(posixpath.dirname(file), path))
        return f"]({posixpath.relpath(place_on_site(named), folder or '.')}{mark}{anchor})"

    return FENCE.sub(r"```\1", LINK.sub(replaced, text))
