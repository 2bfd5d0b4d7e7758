import subprocess
from pathlib import Path

import pytest

from aalbert.cli import main
from aalbert.commands.help import wrap_command
from aalbert.train.downstream.tasks import TASKS
from aalbert.train.preset import about_preset, find_preset, preset_names
from tests.terminal import on_a_terminal
from tests.test_cli import COMMANDS

# What Typer writes for types, which nobody types in.
TYPES_OF_PYTHON = ("<str>", "<int", "<float", "<path>", "list[", "<bool>")


def help_of(command: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main([*command, "--help"]) == 0
    return capsys.readouterr().out


@pytest.fixture(autouse=True)
def eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


@pytest.mark.parametrize("command", [[], *COMMANDS], ids=" ".join)
def test_help_is_plain_in_a_pipe_has_words_for_types_and_cuts_nothing(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    text = help_of(command, capsys)
    assert (
        text.isascii()
        and "\x1b" not in text
        and "..."
        not in text.replace("]...", "")
        .replace("ARGS]...", "")
        .replace("RUN...", "")
        .replace("AUDIO...", "")
    )
    assert not [each for each in TYPES_OF_PYTHON if each in text]
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_option_is_in_a_panel_and_those_of_all_commands_come_last(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = help_of(command, capsys).splitlines()
    panels = [line.rstrip(":") for line in lines if line and not line.startswith(" ")][1:]
    known = ["Arguments", "Options", "Settings", "Running", "Output", "Presets"]
    assert panels == [panel for panel in known if panel in panels]
    output = lines[lines.index("Output:") :]
    names = [line.split()[0].rstrip(",") for line in output if line.startswith("  -")]
    assert names[-4:] == ["-q", "-v", "--no-progress", "-h"]


@pytest.mark.parametrize("folder", ["pretrain", *TASKS])
def test_presets_are_listed_with_what_they_are(
    folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["pretrain"] if folder == "pretrain" else ["downstream", folder]
    text = " ".join(help_of(command, capsys).split())
    assert preset_names(folder)
    for name in preset_names(folder):
        about = about_preset(name, folder)
        assert about and about == find_preset(name, folder).about
        assert f" {name} {about}" in text


def test_help_of_a_command_is_that_of_its_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", "downstream", "voxceleb1"]) == 0
    by_command = capsys.readouterr().out
    assert by_command == help_of(["downstream", "voxceleb1"], capsys)
    assert main(["help"]) == 0
    assert capsys.readouterr().out == help_of([], capsys)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("help downstreem", "No such command 'downstreem'. Did you mean 'downstream'?"),
        ("help pretrain tiny", "pretrain' has no commands: tiny"),
    ],
)
def test_help_of_what_is_no_command_says_so(
    command: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command.split()) == 2
    assert message in capsys.readouterr().err


def test_an_example_over_several_lines_is_one_command_for_a_shell() -> None:
    command = "Example: echo one two --set a=1 --set b=2 --out runs/speaker-logmel"
    text = wrap_command(command, 40)
    assert len(text.splitlines()) > 1 and max(map(len, text.splitlines())) <= 40 + 13
    ran = subprocess.run(
        ["bash", "-c", text.removeprefix("Example: ")], capture_output=True, text=True, check=True
    )
    assert ran.stdout == "one two --set a=1 --set b=2 --out runs/speaker-logmel\n"


def test_help_has_colours_on_a_terminal_unless_they_are_not_wanted(tmp_path: Path) -> None:
    assert "\x1b[36m--data DIR\x1b[0m" in on_a_terminal(
        "-m", "aalbert", "pretrain", "--help", NO_COLOR=""
    )
    assert "\x1b[" not in on_a_terminal("-m", "aalbert", "pretrain", "--help", NO_COLOR="1")
