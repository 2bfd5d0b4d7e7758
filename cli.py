"""The command line: the table of all commands, and the exit code.

A command's module is imported when the command is needed, and heavy packages inside the commands,
so that `--help` and what a shell completes come at once.
"""

import os
import sys
from collections.abc import Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from inspect import signature
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from aalbert import __version__
from aalbert.commands.console import (
    after_stop,
    end_at_once,
    exit_code_of,
    require_text,
    show_tracebacks_without_secrets,
    show_warnings_on_one_line,
)
from aalbert.commands.help import Command, Group, Row
from aalbert.commands.options import PresetCommand
from aalbert.commands.output import with_output_options
from aalbert.common.notes import own_speech
from aalbert.common.signals import handle_stop_signals

DATA, TRAINING, MODELS, HELP = "Data", "Training", "Trained models", "Help"


@dataclass(frozen=True)
class Entry:
    """A command in the table: its panel and its line in the help, and what it is made of.

    `place` is a module in `commands/`, and the function or the group of commands in it. With
    `presets` its help lists those of its name.
    """

    panel: str
    place: str
    summary: str
    presets: bool = False

    def make(self, name: str) -> TyperCommand | TyperGroup:
        """Import and return the command."""
        module, _, attribute = self.place.partition(":")
        found = getattr(import_module(f"aalbert.commands.{module}"), attribute)
        app = found
        if not isinstance(found, typer.Typer):
            kind = PresetCommand if self.presets else Command
            app = typer.Typer(add_completion=False, rich_markup_mode=None)
            app.command(name, cls=kind)(found)
        furnish(app)
        made = typer.main.get_command(app)
        assert isinstance(made, (TyperCommand, TyperGroup))
        made.name = name
        return made


# In the order of use, which is the order in the help. The summary is the first sentence of the
# command's own text, and a test compares them.
COMMANDS = {
    "prepare": Entry(DATA, "prepare:prepare_app", "Turn a corpus into shards of features."),
    "align": Entry(
        DATA,
        "align:align",
        "Make phone labels of recordings from their transcripts, with pocketsphinx (English).",
    ),
    "shards": Entry(
        DATA, "shards:shards_app", "Look inside a dataset: its contents and its integrity."
    ),
    "pretrain": Entry(
        TRAINING,
        "pretrain:pretrain",
        "Pretrain an encoder by reconstructing masked frames.",
        presets=True,
    ),
    "downstream": Entry(
        TRAINING, "downstream:downstream_app", "Train the head of a task on an upstream."
    ),
    "sweep": Entry(
        TRAINING,
        "downstream:sweep",
        "Train a task with every combination of settings and compare them on the dev part.",
    ),
    "evaluate": Entry(
        TRAINING,
        "evaluate:evaluate",
        "Evaluate runs on the test split and compare them with the first one.",
    ),
    "predict": Entry(
        MODELS,
        "predict:predict",
        "Label recordings with a trained run: speakers, phones, numbers, any classes it has "
        "learned.",
    ),
    "compare": Entry(
        MODELS,
        "compare:compare",
        "Say whether two recordings are of one speaker, with a run of verification.",
    ),
    "extract": Entry(
        MODELS,
        "extract:extract",
        "Compute the hidden states of recordings: embeddings, per frame or per utterance.",
    ),
    "inspect": Entry(
        MODELS,
        "inspect:inspect",
        "Show the parts and costs of a model, and the mix that a head learned; with --out, draw "
        "them.",
    ),
    "convert": Entry(
        MODELS,
        "convert:convert",
        "Import a checkpoint of another system, or write a model for s3prl.",
    ),
    "export": Entry(
        MODELS, "export:export", "Write a model as a file that reads waves without this package."
    ),
    "push": Entry(
        MODELS,
        "push:push",
        "Send a model to the Hugging Face hub: weights, settings, modules and card, in one commit.",
    ),
    "demo": Entry(
        HELP,
        "demo:demo",
        "Synthesise a small corpus and run the whole path on it: some minutes on two cores.",
    ),
    "config": Entry(HELP, "config:config_app", "Look at the settings of presets, files and runs."),
    "help": Entry(HELP, "help:show_help_of", "Show the help of a command."),
}


class CommandTable(MutableMapping[str, Any]):
    """The commands by name, each made when it is asked for."""

    def __init__(self) -> None:
        self.made: dict[str, TyperCommand | TyperGroup] = {}

    def __getitem__(self, name: str) -> TyperCommand | TyperGroup:
        if name not in self.made:
            self.made[name] = COMMANDS[name].make(name)
        return self.made[name]

    def __setitem__(self, name: str, command: TyperCommand | TyperGroup) -> None:
        self.made[name] = command

    def __delitem__(self, name: str) -> None:
        del self.made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class RootGroup(Group):
    """The commands of the table, and a help that imports none of them."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands = CommandTable()

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands, of which none is made."""
        return list(COMMANDS)

    def command_panels(self, ctx: Any) -> dict[str, list[Row]]:
        """Return the summaries of all commands, by panel."""
        panels: dict[str, list[Row]] = {}
        for name, entry in COMMANDS.items():
            panels.setdefault(entry.panel, []).append((name, entry.summary))
        return panels


def furnish(group: typer.Typer) -> None:
    """Give every command of a group, and of the groups in it, what all commands have."""
    for command in group.registered_commands:
        assert command.callback is not None
        if "no_progress" not in signature(command.callback).parameters:
            command.callback = with_output_options(command.callback)
        command.cls = command.cls if issubclass(command.cls or TyperCommand, Command) else Command
    for inner in group.registered_groups:
        assert inner.typer_instance is not None
        furnish(inner.typer_instance)


app = typer.Typer(
    cls=RootGroup,
    name="aalbert",
    help="Compute speech features once, pretrain Audio ALBERT on them, identify speakers with it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Compute speech features once, pretrain Audio ALBERT on them, identify speakers with it."""
    if version:
        print(__version__)
        raise typer.Exit


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    show_warnings_on_one_line()
    show_tracebacks_without_secrets()
    # Threads that wait for one another sleep, where they would keep a core busy that others need.
    # OpenMP reads it when PyTorch is imported, by a command.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    given = sys.argv[1:] if arguments is None else arguments

    def run() -> object:
        require_text(given)
        return app(given, prog_name="aalbert", standalone_mode=False)

    with own_speech(), after_stop(), handle_stop_signals(end_at_once):
        return exit_code_of(run)
