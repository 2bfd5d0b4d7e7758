"""Every command line in the documents is one that the programs know.

Those that tests run are found where they run; this reads all of them as the programs do. A block
that cannot be read so, such as a script for a cluster, is marked: ```sh not run: REASON.
"""

import importlib.util
import re
import shlex
import tomllib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import typer
import yaml
from typer.core import TyperGroup

from aalbert.cli import app
from aalbert.train.downstream.tasks import TASKS
from aalbert.train.preset import preset_names
from tests.documents import DOCUMENTS, ROOT
from tests.examples import blocks_of
from tests.test_migration import OPTIONS, SETTINGS

LANGUAGES = {"sh", "python", "text", "yaml", "json"}
NOT_RUN = re.compile(r" not run: \S.*")
TARGETS = set(re.findall(r"^([a-z0-9./-]+):", (ROOT / "Makefile").read_text(), re.M))
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
WRITTEN = [path for path in DOCUMENTS if path.suffix == ".md" and path.name != "CHANGELOG.md"]
SPAN = re.compile(r"`((?:aalbert|make) [^`]*)`")


def read_aalbert(words: list[str]) -> None:
    """Read the words after `aalbert` as the command line does, and its presets and settings."""
    command: Any = typer.main.get_command(app)
    while isinstance(command, TyperGroup):
        name, *words = words
        assert name in command.commands, f"there is no command {name}"
        command = command.commands[name]
    context = command.make_context(command.name, list(words))
    for assignment in context.params.get("assignments") or ():
        setting = assignment.partition("=")[0]
        assert setting in SETTINGS or setting in {"feature"}, f"there is no setting {setting}"
    if preset := context.params.get("preset"):
        folder = command.name if command.name in TASKS else words[0]
        assert preset in preset_names(folder if folder in TASKS else "pretrain")


def read_make(words: list[str]) -> None:
    """Read targets, and variables for them."""
    assert [word for word in words if "=" not in word and word not in TARGETS] == []


def read_python(words: list[str]) -> None:
    """Read `-m MODULE ...`, a module of this repository."""
    assert words[0] == "-m" and importlib.util.find_spec(words[1]) is not None


def read_pip(words: list[str]) -> None:
    """Read `install '.[EXTRA]'`."""
    command, what = words
    found = re.fullmatch(r"\.\[(\w+)\]", what)
    assert command == "install" and found is not None and found[1] in EXTRAS


def read_torchrun(words: list[str]) -> None:
    """Read `--nproc-per-node N -m aalbert ...`."""
    option, number, module, program, *rest = words
    assert (option, module, program) == ("--nproc-per-node", "-m", "aalbert") and number.isdigit()
    read_aalbert(rest)


PROGRAMS: Mapping[str, Callable[[list[str]], None]] = {
    "aalbert": read_aalbert,
    "make": read_make,
    "pip": read_pip,
    "python": read_python,
    "torchrun": read_torchrun,
}


def lines_of(code: str) -> Iterator[str]:
    """Yield the command lines of a block, each whole."""
    return filter(None, (line.strip() for line in code.replace("\\\n", " ").splitlines()))


def read_line(line: str) -> None:
    """Read a command line; `AssertionError` or the program's own error when it is none."""
    program, *words = shlex.split(line, comments=True)
    assert program in PROGRAMS, f"no test knows {program}: mark the block 'not run: REASON'"
    PROGRAMS[program](words)


def require_names(line: str) -> None:
    """Compare the names of commands and options in a text with those that there are."""
    for found in re.finditer(r"(?<!in )\baalbert ((?:[a-z][a-z0-9-]* ?)+)", line):
        words = found[1].split()
        command = next((each for each in (" ".join(words[:2]), words[0]) if each in OPTIONS), None)
        assert command is not None, f"there is no command {words[0]}"
        # The options of a group are those of its commands.
        options = {
            option
            for name, has in OPTIONS.items()
            if name == command or name.startswith(f"{command} ")
            for option in has
        }
        rest = line[found.end(1) :].partition(";")[0].partition("\n")[0]
        given = re.findall(r"(?<!\S)--[a-z][\w-]*", found[1] + rest)
        assert set(given) - {"--help"} <= options, f"{command} has no {set(given) - options}"


def blocks() -> list[Any]:
    """Return every block of commands with the document that has it."""
    return [
        pytest.param(block, id=f"{path.relative_to(ROOT)}: {block['code'].splitlines()[0][:60]}")
        for path in WRITTEN
        for block in blocks_of(path)
        if block["language"] == "sh"
    ]


def test_every_block_says_its_language() -> None:
    assert {block["language"] for path in WRITTEN for block in blocks_of(path)} <= LANGUAGES


@pytest.mark.parametrize("block", blocks())
def test_every_command_line_is_one_or_is_marked(block: dict[str, str]) -> None:
    lines = list(lines_of(block["code"]))
    assert lines
    for line in lines:
        if NOT_RUN.fullmatch(block["about"]):
            require_names(line)
        else:
            read_line(line)


def test_every_command_in_a_text_is_one() -> None:
    spans = [span for path in WRITTEN for span in SPAN.findall(path.read_text())]
    assert len(spans) > 60
    for span in spans:
        program, *words = span.split()
        if program == "make":
            read_make(words)
        else:
            require_names(" ".join((program, *words)))


def test_the_workflows_run_what_there_is() -> None:
    written = [yaml.safe_load(path.read_text()) for path in (ROOT / ".github").rglob("*.yml")]
    jobs = [job for workflow in written for job in workflow.get("jobs", {}).values()]
    lines = [step["run"] for job in jobs for step in job["steps"] if "run" in step]
    lines += [
        line for job in jobs for line in job.get("strategy", {}).get("matrix", {}).get("run", [])
    ]
    assert {".ci/run", ".ci/slow", "make docs", "make wheels", "make test-lowest"} <= set(lines)
    for line in lines:
        program, *words = line.split()
        if program == "make":
            read_make(words)
        for word in (program, *words):
            if word.startswith((".ci/", "tests/", "lock/")):
                assert (ROOT / word).is_file(), line
    assert all(job["timeout-minutes"] for job in jobs)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("aalbert prepair folder /corpora", "there is no command prepair"),
        ("aalbert prepare folder /corpora --out data --fast", "No such option: --fast"),
        (
            "aalbert pretrain --preset tiny --out runs/x --set optimizer.x=1",
            "there is no setting optimizer.x",
        ),
        ("aalbert pretrain --preset huge --out runs/x", "huge"),
        ("aalbert inspect", "Missing parameter: place"),
        ("make everything", "everything"),
        ("python -m benchmarks.nothing", "nothing"),
        ("pip install '.[nothing]'", "nothing"),
        ("curl example.org", "no test knows curl"),
    ],
)
def test_a_command_line_that_is_none_is_noticed(line: str, message: str) -> None:
    with pytest.raises(Exception, match=re.escape(message)):
        read_line(line)


def test_names_in_a_script_are_noticed() -> None:
    require_names("for x in a b; do aalbert evaluate runs/$x --json; done")
    require_names("aalbert prepare CORPUS ... --out DIR --subset X")
    with pytest.raises(AssertionError, match="evaluate has no {'--jason'}"):
        require_names("for x in a b; do aalbert evaluate runs/$x --jason; done")
    with pytest.raises(AssertionError, match="there is no command evaluat"):
        require_names("x; aalbert evaluat runs")
