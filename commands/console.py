"""Output and exit codes of the commands: results on stdout, one line per error on stderr."""

import errno
import json
import shutil
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from aalbert.errors import AalbertError, AalbertWarning, InterruptedRunError, StorageError

Out = Annotated[Path, typer.Option("--out", help="Folder to write.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]

# A shell reports a program that a signal ended as 128 plus the signal's number.
SIGNAL_EXIT_BASE = 128
INTERRUPTED_EXIT = 130
SPACE_ERRORS = {errno.ENOSPC, errno.EDQUOT}
STORAGE_ERRORS = SPACE_ERRORS | {errno.EACCES, errno.EPERM, errno.EROFS}
# Faults of the machine, not of a file, and the way out.
MACHINE_ERRORS = {
    errno.EIO: "the disk or its server fails: run it again when it works",
    errno.ESTALE: "its server has closed it: run it again",
    errno.ENOTCONN: "its server is not connected: run it again when it is",
    errno.ETIMEDOUT: "its server does not respond: run it again when it does",
    errno.EFBIG: "no file so large is possible here: raise the limit with 'ulimit -f'",
    errno.EMFILE: "this process may not open more files: raise its limit with 'ulimit -n'",
    errno.ENFILE: "this machine cannot open more files: end other programs",
}
# A file in place of a folder, or the reverse, or a name that is not possible.
PLACE_ERRORS = {errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP}


USUAL_FORMAT = warnings.formatwarning


def show(document: Any, as_json: bool, text: str) -> None:
    """Print a result on stdout: one JSON document, or text."""
    print(json.dumps(document, ensure_ascii=False) if as_json else text)


def exit_code_of(command: Callable[[], Any]) -> int:
    """Run a command and return its exit code; every known error becomes one line on stderr."""
    try:
        code = int(command() or 0)
        # For Ctrl-C Typer returns only the exit code.
        return report_error("interrupted", code) if code == INTERRUPTED_EXIT else code
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        # A command without arguments raises its own help.
        if context is not None and error.format_message() == context.get_help():
            print(error.format_message(), file=sys.stderr)
            return error.exit_code
        return report_error(usage_message(error), error.exit_code)
    except InterruptedRunError as error:
        return report_error(str(error), SIGNAL_EXIT_BASE + error.signal_number)
    except AalbertError as error:
        return report_error(str(error), error.exit_code, error.details)
    except OSError as error:
        message = system_message(error)
        if message is None:
            raise
        return report_error(message, StorageError.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        return report_error("interrupted", INTERRUPTED_EXIT)


def show_warnings_on_one_line() -> None:
    """Print the warnings of this package without the place in the code, as errors are."""
    warnings.formatwarning = format_warning


def format_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,
) -> str:
    """Return the text of a warning; those of other packages stay as Python has them."""
    if issubclass(category, AalbertWarning):
        return f"warning: {one_line(str(message))}\n"
    return USUAL_FORMAT(message, category, filename, lineno, line)


def report_error(message: str, exit_code: int, details: Sequence[str] = ()) -> int:
    """Print an error on one line of stderr, its details below, and return the exit code."""
    print(f"aalbert: {one_line(message)}", file=sys.stderr)
    for detail in details:
        print(f"  {one_line(detail)}", file=sys.stderr)
    return exit_code


def one_line(message: str) -> str:
    """Return a text with escapes for characters that are not printable.

    File names may contain line breaks, and codes that move the cursor of a terminal.
    """
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in message
    )


def usage_message(error: typer.TyperException) -> str:
    """Return a usage error on one line, with the command that prints the help."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "aalbert"
    message = " ".join(error.format_message().split())
    end = "" if message.endswith((".", "?", "!")) else "."
    return f"{message}{end} See '{command} --help'."


def system_message(error: OSError) -> str | None:
    """Return what the system refused and the way out; None for an error that is a bug here."""
    if error.errno in PLACE_ERRORS:
        return f"{error.strerror}: {error.filename}: choose another path to write"
    if error.errno in STORAGE_ERRORS:
        return storage_message(error)
    if error.errno in MACHINE_ERRORS:
        place = f": {error.filename}" if error.filename else ""
        return f"{error.strerror}{place}: {MACHINE_ERRORS[error.errno]}"
    return None


def storage_message(error: OSError) -> str:
    """Return which path could not be read or written; on a full disk, with the free space."""
    place = Path(error.filename) if error.filename else Path.cwd()
    if error.errno not in SPACE_ERRORS:
        return f"{error.strerror}: {place}"
    existing = next(path for path in (place, *place.resolve().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    return f"{error.strerror}: {place} ({free / 2**20:,.0f} MiB free there)"
