"""The options of all commands: how much they say on stderr."""

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from aalbert.commands.help import OUTPUT
from aalbert.common.notes import SPEECH, timed
from aalbert.errors import require

Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet",
        "-q",
        help="Say nothing but results, warnings and errors.",
        rich_help_panel=OUTPUT,
    ),
]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose",
        "-v",
        help="Say more: what is opened, on which device, how long it takes, causes of errors.",
        rich_help_panel=OUTPUT,
    ),
]
NoProgress = Annotated[
    bool,
    typer.Option("--no-progress", help="Show no progress on stderr.", rich_help_panel=OUTPUT),
]


def with_output_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return a command that has the options of this module too, and heeds them."""

    def set_speech(
        quiet: Quiet = False, verbose: Verbose = False, no_progress: NoProgress = False
    ) -> None:
        require(not (quiet and verbose), "--quiet and --verbose exclude each other")
        SPEECH.notes, SPEECH.details = not quiet, verbose
        SPEECH.progress = not quiet and not no_progress

    own = inspect.signature(command).parameters
    added = inspect.signature(set_speech).parameters

    @functools.wraps(command)
    def with_speech(**values: Any) -> Any:
        set_speech(**{name: values.pop(name) for name in added})
        with timed("in all"):
            return command(**values)

    parameters = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in (*own.values(), *added.values())
    ]
    with_speech.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    with_speech.__annotations__ = {each.name: each.annotation for each in parameters}
    return with_speech
