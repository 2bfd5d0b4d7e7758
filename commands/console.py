"""What a command prints and how it ends: results on stdout, one line per error on stderr."""

import errno
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from aalbert.errors import AalbertError, InterruptedRunError, StorageError

Out = Annotated[Path, typer.Option("--out", help="Folder to write.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]

# A shell reports a program that a signal ended as 128 plus the signal's number.
SIGNAL_EXIT_BASE = 128
INTERRUPTED_EXIT = 130
SPACE_ERRORS = {errno.ENOSPC, errno.EDQUOT}
STORAGE_ERRORS = SPACE_ERRORS | {errno.EACCES, errno.EPERM, errno.EROFS}
# What is wrong with the machine and not with a file, and the way out.
MACHINE_ERRORS = {
    errno.EIO: "the disk or its server fails: run it again when it works",
    errno.ESTALE: "its server has let go of it: run it again",
    errno.ENOTCONN: "its server has gone: run it again when it is back",
    errno.ETIMEDOUT: "its server does not answer: run it again when it does",
    errno.EMFILE: "this process may not open more: raise its limit with 'ulimit -n'",
    errno.ENFILE: "this machine opens no more: end other programs",
}
# A file stands where a folder is needed, or the other way round; or no such name can be.
PLACE_ERRORS = {errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP}


def show(document: Any, as_json: bool, text: str) -> None:
    """Print a result on stdout: one JSON document, or words."""
    print(json.dumps(document, ensure_ascii=False) if as_json else text)


def exit_code_of(command: Callable[[], Any]) -> int:
    """Run a command and return its exit code; every known error becomes one line on stderr."""
    try:
        code = int(command() or 0)
        # Typer answers Ctrl-C with the exit code alone.
        return complain("interrupted", code) if code == INTERRUPTED_EXIT else code
    except typer.TyperException as error:
        if is_help(error):
            print(error.format_message(), file=sys.stderr)
            return error.exit_code
        return complain(usage_message(error), error.exit_code)
    except InterruptedRunError as error:
        return complain(str(error), SIGNAL_EXIT_BASE + error.signal_number)
    except AalbertError as error:
        return complain(str(error), error.exit_code, error.details)
    except OSError as error:
        message = system_message(error)
        if message is None:
            raise
        return complain(message, StorageError.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        return complain("interrupted", INTERRUPTED_EXIT)


def complain(message: str, exit_code: int, details: Sequence[str] = ()) -> int:
    """Print an error on one line of stderr, its details below, and return the exit code."""
    print(f"aalbert: {one_line(message)}", file=sys.stderr)
    for detail in details:
        print(f"  {one_line(detail)}", file=sys.stderr)
    return exit_code


def one_line(message: str) -> str:
    """Return a text with escapes for what is no visible character.

    Names of files may hold line breaks, and codes that move the cursor of a terminal.
    """
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in message
    )


def is_help(error: typer.TyperException) -> bool:
    """Say whether an error is the help that a command without arguments answers with."""
    context = getattr(error, "ctx", None)
    return context is not None and error.format_message() == context.get_help()


def usage_message(error: typer.TyperException) -> str:
    """Return a usage error on one line, with the help to ask for."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "aalbert"
    message = " ".join(error.format_message().split())
    end = "" if message.endswith((".", "?", "!")) else "."
    return f"{message}{end} See '{command} --help'."


def system_message(error: OSError) -> str | None:
    """Say what the system refused and what to do; None where that should not have been asked."""
    if error.errno in PLACE_ERRORS:
        return place_message(error)
    if error.errno in STORAGE_ERRORS:
        return storage_message(error)
    if error.errno in MACHINE_ERRORS:
        place = f": {error.filename}" if error.filename else ""
        return f"{error.strerror}{place}: {MACHINE_ERRORS[error.errno]}"
    return None


def storage_message(error: OSError) -> str:
    """Say which path could not be read or written; on a full disk, how much space there is."""
    place = Path(error.filename) if error.filename else Path.cwd()
    if error.errno not in SPACE_ERRORS:
        return f"{error.strerror}: {place}"
    existing = next(path for path in (place, *place.resolve().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    return f"{error.strerror}: {place} ({free / 2**20:,.0f} MiB free there)"


def place_message(error: OSError) -> str:
    """Say which path cannot be a file or folder, and what to do."""
    return f"{error.strerror}: {error.filename}: choose another path to write"
