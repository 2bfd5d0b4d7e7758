"""Output and exit codes of the commands: results on stdout, one line per error on stderr."""

import errno
import json
import os
import shutil
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any

import typer

from aalbert.commands.help import OUTPUT
from aalbert.common.notes import SPEECH, note
from aalbert.common.redaction import redact, redact_all
from aalbert.common.streams import STANDARD_OUTPUT
from aalbert.common.text import is_unicode, visible
from aalbert.errors import (
    AalbertError,
    AalbertWarning,
    InterruptedRunError,
    StorageError,
    require,
)

Out = Annotated[
    Path,
    typer.Option("--out", metavar="DIR", help="Folder to write.", show_default=False),
]
AsJson = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON document on stdout.", rich_help_panel=OUTPUT),
]

# A shell reports a program that a signal ended as 128 plus the signal's number.
SIGNAL_EXIT_BASE = 128
SPACE_ERRORS = {errno.ENOSPC, errno.EDQUOT}
SERVER_FAILS = "its server does not respond or ended the connection: run it again when it does"
NO_SERVICE = "its file system cannot do this: choose a folder on another one"
BUSY = "another program uses it: end that, or choose another path"
DISK_FAILS = "the disk or its server fails: run it again when it works"
MEMORY_ENDS = "this machine has no memory left: end other programs"
NO_MEMORY = f"{os.strerror(errno.ENOMEM)}: {MEMORY_ENDS}, or raise the limit of 'ulimit -v'"
STORAGE_ERRORS = SPACE_ERRORS | {errno.EACCES, errno.EPERM, errno.EROFS}


def optional(*names: str) -> tuple[int, ...]:
    """Return the numbers of those errors that this system has."""
    return tuple(getattr(errno, name) for name in names if hasattr(errno, name))


# Faults of the machine, not of a file, and the way out.
MACHINE_ERRORS = {
    **dict.fromkeys(
        (errno.EIO, errno.ENXIO, errno.ENODEV, errno.EBADMSG, *optional("EREMOTEIO", "EUCLEAN")),
        DISK_FAILS,
    ),
    **dict.fromkeys(optional("ENOMEDIUM", "EMEDIUMTYPE", "EPROTO", "EHWPOISON"), DISK_FAILS),
    **dict.fromkeys(
        (
            *(errno.ECONNRESET, errno.ECONNREFUSED, errno.ECONNABORTED, errno.ENETDOWN),
            *(errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETRESET, errno.ENOBUFS),
            *optional("EHOSTDOWN", "ESHUTDOWN", "ENONET", "ENOLINK", "ECOMM", "EREMCHG"),
        ),
        SERVER_FAILS,
    ),
    **dict.fromkeys(
        (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EXDEV, errno.EOVERFLOW),
        NO_SERVICE,
    ),
    **dict.fromkeys((errno.EILSEQ, *optional("ENOKEY", "EKEYREJECTED")), NO_SERVICE),
    **dict.fromkeys((errno.EBUSY, errno.ETXTBSY, errno.EAGAIN, errno.EDEADLK), BUSY),
    errno.EFBIG: "files may not be so large here: raise 'ulimit -f', or choose another file system",
    errno.ENOENT: "it has gone, or cannot be made: put it back, or choose another path",
    errno.ENOMEM: MEMORY_ENDS,
    errno.ENOLCK: "its file system has no locks left: run it again, or choose another folder",
    errno.EMLINK: "its folder can hold no more: choose another one",
    errno.ESTALE: "its server has closed it: run it again",
    errno.ENOTCONN: "its server is not connected: run it again when it is",
    errno.ETIMEDOUT: "its server does not respond: run it again when it does",
    errno.EMFILE: "this process may not open more files: raise its limit with 'ulimit -n'",
    errno.ENFILE: "this machine cannot open more files: end other programs",
}
# A file in place of a folder, or the reverse, or a name that is not possible.
PLACE_ERRORS = {errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP}


# What a stopped command says to do, the last one counts.
AFTER_STOP: list[str] = []
USUAL_FORMAT = warnings.formatwarning


def require_text(arguments: Sequence[str]) -> None:
    """Raise `ConfigError` for an argument of bytes that are no text, such as a path.

    Results name their files and folders; JSON, YAML, HTML and Arrow hold nothing but text.
    """
    for argument in arguments:
        require(is_unicode(argument), f"{argument}: it is not UTF-8 text: rename what it names")


def show(document: Any, as_json: bool, text: str, *, then: str | None = None) -> None:
    """Print a result on stdout: one JSON document in ASCII, or text, without secrets of URLs.

    `then` is the command that users go on with, for those who read the text.
    """
    print(json.dumps(redact_all(document)) if as_json else visible(redact(text), kept="\n\t"))
    if then is not None and not as_json:
        sys.stdout.flush()
        note(f"next: {then}")


def show_skipped(skips: Sequence[Mapping[str, str]]) -> None:
    """Print inputs that were skipped on stderr, each by its `source` and with the `reason`."""
    for skip in skips:
        print(visible(redact(f"skipped {skip['source']}: {skip['reason']}")), file=sys.stderr)


def exit_code_of(command: Callable[[], Any]) -> int:
    """Run a command and return its exit code; every known error becomes one line on stderr.

    What a command has printed may still have to be written, whether it succeeded or not.
    """
    code, code_of_output = reported(command), reported(sys.stdout.flush)
    return code or code_of_output


def reported(command: Callable[[], Any]) -> int:
    """Return what a command does, or the exit code of its error, which is reported."""
    try:
        return int(command() or 0)
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
        show_cause(error)
        return report_error(str(error), error.exit_code, error.details)
    except MemoryError:
        return report_error(NO_MEMORY, StorageError.exit_code)
    except OSError as error:
        if error.errno == errno.EPIPE and error.filename == STANDARD_OUTPUT:
            # Who reads it wants no more, and no message. The parser of options does the same.
            return 1
        message = system_message(error)
        if message is None:
            raise
        return report_error(message, StorageError.exit_code)


def show_cause(error: AalbertError) -> None:
    """Print where an error came from, for those who want details."""
    if SPEECH.details:
        show_traceback(type(error), error, error.__traceback__)


@contextmanager
def after_stop() -> Iterator[None]:
    """Have what a command says to do after a signal end with it."""
    yield
    AFTER_STOP.clear()


def say_after_stop(text: str) -> None:
    """Have the line about a signal that ends this process say what to do then."""
    AFTER_STOP.append(text)


def end_at_once(signal_number: int) -> None:
    """End this process as a signal asks, with one line on stderr; for a handler of signals.

    The line goes past Python's stream, which the work that the signal came into may be writing to.
    """
    # A progress bar leaves the cursor in its line.
    bars = sys.stderr.isatty() and getattr(
        getattr(sys.modules.get("tqdm.std"), "tqdm", None), "_instances", ()
    )
    after = f": {AFTER_STOP[-1]}" if AFTER_STOP else ""
    line = f"aalbert: interrupted by {signal.Signals(signal_number).name}{after}\n"
    with suppress(OSError):  # the terminal may be gone
        os.write(2, ("\n" * bool(bars) + line).encode())
    os._exit(SIGNAL_EXIT_BASE + signal_number)


def show_warnings_on_one_line() -> None:
    """Print the warnings of this package without the place in the code, as errors are."""
    warnings.formatwarning = format_warning


def show_tracebacks_without_secrets() -> None:
    """Print the traceback of an unexpected error without the secrets of URLs."""
    sys.excepthook = show_traceback


def show_traceback(
    category: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Print an error as Python does, with those that led to it."""
    lines = traceback.format_exception(category, error, trace)
    print(redact("".join(lines)), end="", file=sys.stderr)


def format_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,
) -> str:
    """Return the text of a warning; those of other packages stay as Python has them."""
    if issubclass(category, AalbertWarning):
        return f"warning: {visible(redact(str(message)))}\n"
    return redact(USUAL_FORMAT(message, category, filename, lineno, line))


def report_error(message: str, exit_code: int, details: Sequence[str] = ()) -> int:
    """Print an error on one line of stderr, its details below, and return the exit code."""
    print(f"aalbert: {visible(redact(message))}", file=sys.stderr)
    for detail in details:
        print(f"  {visible(redact(detail))}", file=sys.stderr)
    return exit_code


def usage_message(error: typer.TyperException) -> str:
    """Return a usage error on one line, with the command that prints the help."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "aalbert"
    message = " ".join(error.format_message().split())
    end = "" if message.endswith((".", "?", "!")) else "."
    return f"{message}{end} See '{command} --help'."


def system_message(error: OSError) -> str | None:
    """Return what the system refused and the way out; None for an error that is a bug here."""
    if error.filename == STANDARD_OUTPUT:
        return f"{error.strerror}: {STANDARD_OUTPUT}"
    if error.errno in PLACE_ERRORS:
        return f"{error.strerror}: {error.filename}: choose another path"
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
