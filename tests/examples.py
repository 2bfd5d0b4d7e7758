"""The examples of the documents."""

import re
import shlex
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"
BLOCK = re.compile(r"^```(?P<language>\w*)(?P<about>[^\n]*)\n(?P<code>.*?)^```$", re.M | re.S)


def blocks_of(document: Path) -> list[dict[str, str]]:
    """Return the `code` of every block of a document, its `language`, and what follows on that."""
    return [match.groupdict() for match in BLOCK.finditer(document.read_text())]


def examples_of(page: str) -> list[dict[str, str]]:
    """Return the blocks of a page of `docs/`."""
    return blocks_of(DOCS / page)


def commands_of(page: str, program: str = "aalbert") -> list[list[str]]:
    """Return the words of every command of a page that starts a program, after its name."""
    lines = (
        line
        for example in examples_of(page)
        if example["language"] == "sh" and "not run" not in example["about"]
        for line in example["code"].replace("\\\n", " ").splitlines()
    )
    commands = (shlex.split(line) for line in lines)
    return [command[1:] for command in commands if command[:1] == [program]]
