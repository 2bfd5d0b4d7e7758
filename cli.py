"""The command line: the table of all commands, and the exit code.

Heavy packages are imported inside the commands, so that `--help` answers at once.
"""

import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated

import typer
from typer.core import TyperGroup

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
from aalbert.commands.inspect import inspect
from aalbert.commands.predict import predict
from aalbert.commands.prepare import prepare_app
from aalbert.commands.pretrain import pretrain
from aalbert.commands.push import push
from aalbert.commands.shards import shards_app
from aalbert.common.signals import handle_stop_signals

# In the order of use, which is the order in the help.
COMMANDS: dict[str, typer.Typer | Callable[..., None]] = {
    "prepare": prepare_app,
    "align": align,
    "shards": shards_app,
    "config": config_app,
    "pretrain": pretrain,
    "downstream": downstream_app,
    "sweep": sweep,
    "evaluate": evaluate,
    "predict": predict,
    "compare": compare,
    "extract": extract,
    "inspect": inspect,
    "convert": convert,
    "export": export,
    "push": push,
    "demo": demo,
}


class OrderedGroup(TyperGroup):
    """Lists the commands in the order of the table."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        """Return the names of the commands."""
        return list(COMMANDS)


app = typer.Typer(
    cls=OrderedGroup,
    name="aalbert",
    help="Compute speech features once, pretrain Audio ALBERT on them, identify speakers with it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
for name, command in COMMANDS.items():
    if isinstance(command, typer.Typer):
        app.add_typer(command, name=name)
    else:
        app.command(name)(command)


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
        return app(given, standalone_mode=False)

    with handle_stop_signals(end_at_once):
        return exit_code_of(run)
