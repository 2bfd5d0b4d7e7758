"""The page of all commands with their options, made of the command line itself."""

import re
from collections.abc import Iterator

import typer
from typer.core import TyperCommand, TyperGroup

from aalbert.cli import app
from aalbert.commands.help import option_panels
from website.markdown import cell

INTRODUCTION = """# Command line

Every command with its arguments and options, as `--help` prints them.

"""


Command = TyperCommand | TyperGroup


def all_commands(group: TyperGroup, words: tuple[str, ...]) -> Iterator[tuple[str, Command]]:
    """Yield every command of a group by its words, such as `aalbert prepare folder`, in order."""
    context = group.make_context(words[-1], [], resilient_parsing=True)
    for name in group.list_commands(context):
        command = group.commands[name]
        assert isinstance(command, Command)
        yield " ".join((*words, name)), command
        if isinstance(command, TyperGroup):
            yield from all_commands(command, (*words, name))


def parameter_table(command: Command, name: str) -> str:
    """Return the arguments and options of a command as a table."""
    context = command.make_context(name, [], resilient_parsing=True)
    panels = option_panels(command, context).values()
    rows = [f"| `{written}` | {cell(meaning)} |" for panel in panels for written, meaning in panel]
    return "\n".join(["| option | meaning |", "|---|---|", *rows]) if rows else ""


def description(command: Command) -> str:
    """Return the help of a command as Markdown: its examples are blocks of code."""
    paragraphs = re.split(r"\n\s*\n", (command.help or "").strip())
    return "\n\n".join(
        f"```sh\n{' '.join(text.removeprefix('Example: ').split())}\n```"
        if text.startswith("Example: ")
        else text
        for text in paragraphs
    )


def command_line_page() -> str:
    """Return the page as Markdown."""
    root = typer.main.get_command(app)
    assert isinstance(root, TyperGroup)
    sections = (
        "\n\n".join(
            filter(None, [heading(name), description(command), parameter_table(command, name)])
        )
        for name, command in all_commands(root, ("aalbert",))
    )
    return INTRODUCTION + "\n\n".join(sections) + "\n"


def heading(name: str) -> str:
    """Return the heading of a command: one of a group stands below that of the group."""
    return f"{'#' * len(name.split())} {name}"
