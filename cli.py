"""The command line: the table of all commands, and the exit code.

Heavy packages are imported inside the commands, so that `--help` answers at once.
"""

import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from aalbert import __version__
from aalbert.commands.align import align
from aalbert.commands.compare import compare
from aalbert.commands.config import config_app
from aalbert.commands.console import (
    end_at_once,
    exit_code_of,
    require_text,
    show_tracebacks_without_secrets,
    show_warnings_on_one_line,
)
from aalbert.commands.convert import convert
from aalbert.commands.demo import demo
from aalbert.commands.downstream import downstream_app, sweep
from aalbert.commands.evaluate import evaluate
from aalbert.commands.export import export
from aalbert.commands.extract import extract
from aalbert.commands.help import Command, Group, show_help_of
from aalbert.commands.inspect import inspect
from aalbert.commands.options import PresetCommand
from aalbert.commands.output import with_output_options
from aalbert.commands.predict import predict
from aalbert.commands.prepare import prepare_app
from aalbert.commands.pretrain import pretrain
from aalbert.commands.push import push
from aalbert.commands.shards import shards_app
from aalbert.common.notes import own_speech
from aalbert.common.signals import handle_stop_signals

DATA, TRAINING, MODELS, HELP = "Data", "Training", "Trained models", "Help"

# In the order of use, which is the order in the help, each with its panel there.
COMMANDS: dict[str, tuple[typer.Typer | Callable[..., None], str]] = {
    "prepare": (prepare_app, DATA),
    "align": (align, DATA),
    "shards": (shards_app, DATA),
    "pretrain": (pretrain, TRAINING),
    "downstream": (downstream_app, TRAINING),
    "sweep": (sweep, TRAINING),
    "evaluate": (evaluate, TRAINING),
    "predict": (predict, MODELS),
    "compare": (compare, MODELS),
    "extract": (extract, MODELS),
    "inspect": (inspect, MODELS),
    "convert": (convert, MODELS),
    "export": (export, MODELS),
    "push": (push, MODELS),
    "demo": (demo, HELP),
    "config": (config_app, HELP),
    "help": (show_help_of, HELP),
}


class OrderedGroup(Group):
    """Lists the commands in the order of the table."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands."""
        return list(COMMANDS)


app = typer.Typer(
    cls=OrderedGroup,
    name="aalbert",
    help="Compute speech features once, pretrain Audio ALBERT on them, identify speakers with it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
for name, (command, panel) in COMMANDS.items():
    if isinstance(command, typer.Typer):
        app.add_typer(command, name=name, rich_help_panel=panel)
    else:
        kind = PresetCommand if command is pretrain else Command
        app.command(name, cls=kind, rich_help_panel=panel)(command)


def furnish(group: typer.Typer) -> None:
    """Give every command of a group, and of the groups in it, what all commands have."""
    for command in group.registered_commands:
        assert command.callback is not None
        command.callback = with_output_options(command.callback)
        command.cls = command.cls if issubclass(command.cls or TyperCommand, Command) else Command
    for inner in group.registered_groups:
        assert inner.typer_instance is not None
        furnish(inner.typer_instance)


furnish(app)


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

    with own_speech(), handle_stop_signals(end_at_once):
        return exit_code_of(run)
