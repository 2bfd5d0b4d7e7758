"""The command line: the commands of every room, and the exit code.

Heavy packages are imported inside the commands, so that `--help` answers at once.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup

from aalbert import __version__
from aalbert.commands.config import config_app
from aalbert.commands.console import exit_code_of
from aalbert.commands.convert import convert
from aalbert.commands.downstream import downstream_app, sweep
from aalbert.commands.evaluate import evaluate
from aalbert.commands.extract import extract
from aalbert.commands.inspect import inspect
from aalbert.commands.prepare import prepare_app
from aalbert.commands.pretrain import pretrain
from aalbert.commands.shards import shards_app

ORDER = (
    "prepare",
    "shards",
    "config",
    "pretrain",
    "downstream",
    "sweep",
    "evaluate",
    "extract",
    "inspect",
    "convert",
)


class InOrderOfWork(TyperGroup):
    """Lists the commands in the order in which they are used."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        """Return the names of the commands."""
        return sorted(self.commands, key=lambda name: [*ORDER, name].index(name))


app = typer.Typer(
    cls=InOrderOfWork,
    name="aalbert",
    help="Compute speech features once, pretrain Audio ALBERT on them, identify speakers with it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
app.add_typer(prepare_app, name="prepare")
app.add_typer(shards_app, name="shards")
app.command("pretrain")(pretrain)
app.add_typer(config_app, name="config")
app.add_typer(downstream_app, name="downstream")
app.command("sweep")(sweep)
app.command("evaluate")(evaluate)
app.command("extract")(extract)
app.command("inspect")(inspect)
app.command("convert")(convert)


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Compute speech features once, pretrain Audio ALBERT on them, identify speakers with it."""
    if version:
        print(__version__)
        raise typer.Exit


@app.command("demo")
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder to write.")] = Path("demo"),
) -> None:
    """Synthesise two small corpora and run the whole path on them, in about three minutes.

    Example: aalbert demo
    """
    from aalbert.commands.demo import run_demo

    run_demo(out)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    return exit_code_of(lambda: app(arguments, standalone_mode=False))


if __name__ == "__main__":
    sys.exit(main())
