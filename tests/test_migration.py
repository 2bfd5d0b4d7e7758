"""The page for those who come from other systems names what exists, and all that theirs has."""

import importlib.util
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from typer.core import TyperGroup

from aalbert.cli import app, main
from aalbert.common.configuration import load_config
from aalbert.conversion.published_names import CHECKPOINTS, DROPBOX, FEATURES, REFUSED
from aalbert.pipeline.prepare.recipe import Recipe
from aalbert.shards.format.feature_groups import with_feature_groups
from aalbert.shards.format.feature_settings import SETTINGS_BY_KIND
from aalbert.train.downstream.config import DownstreamConfig
from aalbert.train.downstream.tasks import S3PRL_TASKS, TASKS
from aalbert.train.preset import preset_names
from aalbert.train.pretraining.config import PretrainConfig
from aalbert.train.run_folder import EvaluationFolder, RunFolder
from tests.conversion.test_saved_model import document
from tests.examples import DOCS, examples_of

PAGE = (DOCS / "migration.md").read_text()
CONFIGS = (PretrainConfig, DownstreamConfig, with_feature_groups(Recipe))
PRESETS = {name for folder in ("pretrain", *TASKS) for name in preset_names(folder)}
FILES = {
    *(path.name for path in vars(RunFolder(Path())).values()),
    *(path.name for path in vars(EvaluationFolder(Path())).values()),
    "metrics.csv",
}
MODELS = {"audio_albert", "mockingjay", "tera"}


def rows() -> Iterator[list[str]]:
    """The cells of every row of the tables that say what is here."""
    here = False
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if not line.startswith("|"):
            here = False
        elif not here:
            here = cells[1] == "here"
        elif not line.startswith("|---"):
            yield [cell.strip(" |") for cell in cells]


ROWS = list(rows())


def spans(cell: str) -> list[str]:
    """The words in a cell that are code."""
    return re.findall(r"`([^`]+)`", cell)


def commands(group: TyperGroup, words: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every command by its words, such as `prepare librispeech`."""
    for name, command in group.commands.items():
        yield " ".join((*words, name)), command
        if isinstance(command, TyperGroup):
            yield from commands(command, (*words, name))


ROOT = typer.main.get_command(app)
assert isinstance(ROOT, TyperGroup)
OPTIONS = {
    command: {option for each in found.params for option in each.opts}
    for command, found in commands(ROOT)
}
EVERY_OPTION = set().union(*OPTIONS.values())


def names_in(document: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """The dotted names of all settings of a document, and of their groups."""
    for name, value in document.items():
        yield prefix + name
        if isinstance(value, Mapping):
            yield from names_in(value, f"{prefix}{name}.")


SETTINGS = {name for config in CONFIGS for name in names_in(asdict(config()))}


def exists(span: str) -> bool:
    """Whether a span of the column `here` is a command, an option, a setting or a name of ours."""
    if span.startswith("aalbert "):
        words = [word for word in span.split()[1:] if not word.startswith("--")]
        command = " ".join(words) if " ".join(words) in OPTIONS else words[0]
        return command in OPTIONS and all(
            word in OPTIONS[command] for word in span.split() if word.startswith("--")
        )
    if span.startswith("--"):
        return span.split()[0] in EVERY_OPTION
    name = span.partition("=")[0]
    known = {*SETTINGS, *TASKS, *SETTINGS_BY_KIND, *FEATURES, *CHECKPOINTS, *FILES, *PRESETS}
    return name in known


def test_there_are_tables() -> None:
    assert len(ROWS) > 150
    assert {len(row) for row in ROWS} == {3}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:60])
def test_what_a_row_says_is_here_exists(row: list[str]) -> None:
    _, here, difference = row
    assert here == "none" or spans(here), "neither a name nor 'none'"
    assert [span for span in spans(here) if not exists(span)] == []
    for span in spans(difference):
        if span.startswith("aalbert "):
            assert exists(span)
        words = span.split()
        for word, value in zip(words, [*words[1:], ""], strict=True):
            if word.startswith("--") and not span.startswith("-o"):
                assert word in EVERY_OPTION | {"--nproc-per-node"}
            if word == "--preset":
                assert value in PRESETS


ASSIGNMENT = re.compile(r"`(?:--set )*([a-z_.]+=[^` ]+)")


@pytest.mark.parametrize("assignment", sorted(set(ASSIGNMENT.findall(PAGE))))
def test_the_values_on_the_page_are_possible(assignment: str) -> None:
    name = assignment.partition("=")[0]
    config = next(each for each in CONFIGS if name in set(names_in(asdict(each()))))
    load_config(config, assignments=[assignment], environment={})


@pytest.mark.parametrize("name", S3PRL_TASKS)
def test_the_error_for_a_task_of_s3prl_says_what_the_page_says(name: str) -> None:
    (row,) = [row for row in ROWS if name in spans(row[0])]
    task, *options = S3PRL_TASKS[name].split()
    assert task in TASKS and task in spans(row[1])
    if options[0] == "--preset":
        assert f"--preset {options[1]}" in row[2] and options[1] in preset_names(task)
    else:
        assert options[1].startswith("labels.column=")


def test_the_page_says_what_every_name_is_here() -> None:
    for name in {*CHECKPOINTS, *FEATURES, *REFUSED} - {*DROPBOX}:
        assert f"`{name}`" in PAGE or name.endswith("_url"), name


@pytest.mark.parametrize(
    ("file", "heading"), [("run_downstream", "downstream"), ("run_pretrain", "pretrain")]
)
def test_every_flag_of_s3prl_is_on_the_page(file: str, heading: str) -> None:
    found = importlib.util.find_spec("s3prl")
    if found is None or found.origin is None:
        pytest.skip("`make test-s3prl` installs s3prl")
    source = (Path(found.origin).parent / f"{file}.py").read_text()
    flags = set(re.findall(r"add_argument\(\s*((?:'-{1,2}[\w]+',?\s*)+)", source))
    names = {name for each in flags for name in re.findall(r"--?\w+", each)}
    section = PAGE.partition(f"## Flags of `{file}.py`")[2].partition("\n## ")[0]
    listed = {word for span in spans(section) for word in span.split()}
    assert len(names) > 10
    assert names - listed == set()


def test_the_examples_run(
    voxceleb1_data: Path, librispeech_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(voxceleb1_data, "data/voxceleb1")
    shutil.copytree(librispeech_data, "data/librispeech")
    torch.save(document(), "states-1000000.ckpt")
    [code] = [each["code"] for each in examples_of("migration.md")]
    fewer = {
        "downstream": ["--set", "epochs=1"],
        "pretrain": ["--set", "steps=2"],
    }
    for line in code.splitlines():
        words = shlex.split(line)[1:]
        assert main([*words, *fewer.get(words[0], [])]) == 0, line
