"""The help of the commands: in panels, with words for types, in colour on a terminal.

Typer's plain help has all options in one list, `<list[str]>` for types, and cuts the summaries of
commands; that of Rich draws frames into pipes, and takes as long to import as all else together.
"""

import os
import re
import sys
import textwrap
from collections.abc import Iterator, Sequence
from inspect import cleandoc
from typing import Annotated, Any

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from aalbert.errors import require

# The panels in this order; options and commands of no other panel are in those of their name.
ARGUMENTS, OPTIONS, COMMANDS = "Arguments", "Options", "Commands"
SETTINGS, RUNNING, OUTPUT = "Settings", "Running", "Output"
PANELS = (ARGUMENTS, OPTIONS, SETTINGS, RUNNING, OUTPUT)
# What has a longer name has its text in the next line.
LONGEST_NAME = 30
SUMMARY_CHARACTERS = 1_000
TYPE_WORDS = {int: "N", float: "NUMBER"}
EXAMPLE = "Example: "
# An option with what is given with it, or a word.
PIECES = re.compile(r"-\S+ [^-]\S*|\S+")

# A name and its text.
Row = tuple[str, str]


class Command(TyperCommand):
    """A command whose help has its options in panels."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return arguments and options."""
        return without_missing_flags(super().get_params(ctx))

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help."""
        formatter.write(help_text(self, ctx, formatter.width, self.further_panels()))

    def further_panels(self) -> dict[str, list[Row]]:
        """Return panels below those of the options, with their rows."""
        return {}


class Group(TyperGroup):
    """Commands, in panels, with their whole summaries."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return arguments and options."""
        return without_missing_flags(super().get_params(ctx))

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help."""
        formatter.write(help_text(self, ctx, formatter.width, self.command_panels(ctx)))

    def command_panels(self, ctx: Any) -> dict[str, list[Row]]:
        """Return the commands with their summaries."""
        commands = ((name, self.get_command(ctx, name)) for name in self.list_commands(ctx))
        rows = [
            (name, command.get_short_help_str(SUMMARY_CHARACTERS))
            for name, command in commands
            if command is not None
        ]
        return {COMMANDS: rows}


def without_missing_flags(parameters: list[Any]) -> list[Any]:
    """Return parameters with False for flags that are not given.

    Typer checks None by pydantic, whose import takes as long as all else that `--help` needs.
    """
    for parameter in parameters:
        if isinstance(parameter, TyperOption) and parameter.is_flag and parameter.default is None:
            parameter.default = False
    return parameters


def help_text(
    command: TyperCommand | TyperGroup, ctx: Any, width: int, further: dict[str, list[Row]]
) -> str:
    """Return the help of a command: its usage, what it does, and its options and `further` panels.

    A group's commands come before its options.
    """
    panels = option_panels(command, ctx)
    in_order = {**further, **panels} if isinstance(command, TyperGroup) else {**panels, **further}
    usage = wrap(f"{ctx.command_path} {' '.join(usage_pieces(command, ctx))}", width, " " * 7)
    parts = [f"{heading('Usage')} {usage}", *paragraphs(command.help or "", width)]
    for title, rows in in_order.items():
        parts.append("\n".join([heading(title), *lines_of(rows, width)]))
    return "\n\n".join(parts) + "\n"


def usage_pieces(command: TyperCommand | TyperGroup, ctx: Any) -> Iterator[str]:
    """Yield the words of the usage behind the name of the command."""
    yield "[OPTIONS]"
    for parameter in command.get_params(ctx):
        if isinstance(parameter, TyperArgument):
            name = argument_name(parameter)
            yield name if parameter.required or name.startswith("[") else f"[{name}]"
    if isinstance(command, TyperGroup):
        yield command.subcommand_metavar


def argument_name(argument: TyperArgument) -> str:
    """Return what stands for an argument, with dots if it may be given several times."""
    if argument.metavar is not None:
        return argument.metavar
    return argument.name.upper() + ("..." if argument.nargs != 1 else "")


def option_panels(command: TyperCommand | TyperGroup, ctx: Any) -> dict[str, list[Row]]:
    """Return the rows of arguments and options by panel."""
    found: dict[str, list[Row]] = {panel: [] for panel in PANELS}
    for parameter in command.get_params(ctx):
        record = parameter.get_help_record(ctx)
        if record is None:
            continue
        # Typer ends a text with two spaces and remarks in brackets.
        text = record[1].replace(".  [", ". [").replace("  [", " [")
        if isinstance(parameter, TyperArgument):
            found[ARGUMENTS].append((argument_name(parameter), text.replace(" [required]", "")))
        elif isinstance(parameter, TyperOption):
            of_all = OUTPUT if parameter.name == "help" else OPTIONS
            panel = parameter.rich_help_panel or of_all
            found[panel].append((option_name(parameter), text))
    return {panel: rows for panel, rows in found.items() if rows}


def option_name(option: TyperOption) -> str:
    """Return the names of an option, the short one first, and what is to be given with it."""
    names = ", ".join(sorted(option.opts, key=len))
    return names if option.is_flag or option.count else f"{names} {type_words(option)}"


def type_words(option: TyperOption) -> str:
    """Return what stands for the value of an option."""
    described = option.type_descriptor
    if option.metavar is not None:
        return option.metavar
    if described.choices is not None:
        return "|".join(map(str, described.choices))
    if described.is_path:
        return "PATH"
    return TYPE_WORDS.get(described.annotation, "TEXT")


def paragraphs(text: str, width: int) -> Iterator[str]:
    """Yield the paragraphs of a text; an example is a command that can be copied as it is."""
    for paragraph in filter(None, cleandoc(text).split("\n\n")):
        words = " ".join(paragraph.split())
        if words.startswith(EXAMPLE):
            yield f"  {wrap_command(words, width - 2)}"
        else:
            yield f"  {wrap(words, width - 2, '  ')}"


def wrap(text: str, width: int, indent: str = "") -> str:
    """Return a text in lines of at most this width, the second and later ones indented."""
    lines = textwrap.wrap(text, width - len(indent), break_long_words=False, break_on_hyphens=False)
    return f"\n{indent}".join(lines)


def wrap_command(text: str, width: int) -> str:
    """Return a command in lines that a shell joins again; an option stays with its value."""
    pieces, lines = PIECES.findall(text), [""]
    for piece in pieces:
        if lines[-1] and len(lines[-1]) + len(piece) + len(" ") + len(" \\") > width:
            lines.append("")
        lines[-1] += f" {piece}" if lines[-1] else piece
    return f" \\\n{' ' * (len(EXAMPLE) + 4)}".join(lines)


def lines_of(rows: Sequence[Row], width: int) -> Iterator[str]:
    """Yield rows as lines: names in a column, texts beside them."""
    column = min(LONGEST_NAME, max(len(name) for name, _ in rows)) + 4
    for name, text in rows:
        shown = wrap(text, width, " " * column)
        gap = column - 2 - len(name)
        begin = " " * gap if gap >= 2 else f"\n{' ' * column}"
        yield f"  {paint(name, fg='cyan')}{begin if shown else ''}{shown}"


def heading(title: str) -> str:
    """Return the heading of a panel."""
    return paint(f"{title}:", bold=True)


def paint(text: str, **look: Any) -> str:
    """Return a text in colours where they are seen: https://no-color.org."""
    wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    shown = wanted and sys.stdout.isatty() and sys.stderr.isatty()
    return typer.style(text, **look) if shown else text


def complete_words(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the commands, of the group that is named so far, that begin so."""
    found: Any = ctx.find_root().command
    for word in ctx.params.get("words") or ():
        found = found.get_command(ctx, word) if isinstance(found, TyperGroup) else None
    names = found.list_commands(ctx) if isinstance(found, TyperGroup) else []
    return [name for name in names if name.startswith(incomplete)]


def show_help_of(
    ctx: typer.Context,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[COMMAND]...",
            help="A command, such as prepare librispeech.",
            autocompletion=complete_words,
        ),
    ] = None,
) -> None:
    """Show the help of a command.

    Example: aalbert help downstream voxceleb1
    """
    found: Any = ctx.find_root()
    for word in words or ():
        group = found.command
        require(isinstance(group, TyperGroup), f"'{found.command_path}' has no commands: {word}")
        name, command, _ = group.resolve_command(found, [word])
        found = typer.Context(command, info_name=name, parent=found)
    typer.echo(found.get_help())
