"""A process that has imported what commands import, and becomes `aalbert` as often as it is asked.

Each program is a fork of it, so it starts in milliseconds instead of seconds. A request, a line of
JSON, comes over a connection of its own, and is answered with the program's process id and, when
it has ended, its status. The program has a session of its own. What it is to suffer comes with the
request: limits, and an `aim`, which strikes at a moment that no signal from outside could meet.
"""

import atexit
import ctypes
import gc
import importlib
import json
import os
import resource
import select
import signal
import socket
import sys
import threading
import time
from typing import Any, NoReturn

IMPORTED = (
    "aalbert.pipeline.prepare.prepare",
    "aalbert.pipeline.corpora.librispeech",
    "aalbert.pipeline.corpora.voxceleb1",
    "aalbert.pipeline.alignment.align",
    "aalbert.pipeline.convert",
    "aalbert.pipeline.embeddings.extract",
    "aalbert.pipeline.prediction.predict",
    "aalbert.train.recipes",
    "aalbert.train.pretraining.run",
    "aalbert.train.pretraining.estimate",
    "aalbert.train.downstream.run",
    "aalbert.train.downstream.sweep",
    "aalbert.train.evaluation.evaluate",
    "aalbert.train.evaluation.report",
    "aalbert.shards.verification.verify",
    "aalbert.cli",
    "aalbert.__main__",
)

EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate")


def become_program(request: dict[str, Any]) -> None:
    """Make of this process the program that is asked for, up to its first line."""
    os.chdir(request["folder"])
    os.environ.update(request["environment"])
    # Under a limit Python would cut its own files too, and never again import what is in them.
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    for descriptor, path in ((1, request["stdout"]), (2, request["stderr"])):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(file, descriptor)
        os.close(file)
    for name, limit in request["limits"].items():
        number = getattr(resource, f"RLIMIT_{name}")
        resource.setrlimit(number, (limit, resource.getrlimit(number)[1]))
    exec(request["setup"])
    if request["trace"] is not None:
        trace(request["trace"])
    if request["shared_memory_bytes"] is not None:
        limit_shared_memory(request["shared_memory_bytes"])
    if request["aim"] is not None:
        aim(**request["aim"])
    sys.argv = ["aalbert", *request["arguments"]]


def limit_shared_memory(size: int) -> None:
    """Give this process a `/dev/shm` of its own, of so many bytes (needs root)."""
    system = ctypes.CDLL(None, use_errno=True)
    new_mounts, private = 0x0002_0000, 0x0004_4000
    for failed in (
        system.unshare(new_mounts),
        system.mount(b"none", b"/", None, private, None),
        system.mount(b"tmpfs", b"/dev/shm", b"tmpfs", 0, f"size={size}".encode()),
    ):
        if failed:
            raise OSError(ctypes.get_errno(), "/dev/shm cannot be limited")


def aim(event: str, path: str, nth: int, action: str, argument: float) -> None:
    """Strike when the `nth` audit event of a kind touches a path that holds this text.

    Events are those of Python's table: those in `EVENTS` and others. Actions:
    `signal` sends the signal `argument` to this process, `group` to its process group, `error`
    raises the system's error of the number `argument`, `clock` sets the clock back by `argument`
    seconds.
    """
    left = nth
    actions = {"signal": strike, "group": strike_group, "error": refuse, "clock": set_back}

    def watch(happened: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if happened != event or path not in str(arguments[0] if arguments else ""):
            return
        left -= 1
        if left == 0:
            actions[action](argument)

    sys.addaudithook(watch)


def trace(path: str) -> None:
    """Write a line for every audit event that `aim` could strike at: the event and the path."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def watch(happened: str, arguments: tuple[Any, ...]) -> None:
        if happened in EVENTS:
            os.write(file, f"{happened} {str(arguments[0])!a}\n".encode())

    sys.addaudithook(watch)


def strike(number: float) -> None:
    """Send a signal to this process."""
    os.kill(os.getpid(), int(number))


def strike_group(number: float) -> None:
    """Send a signal to this process and those that it has started."""
    os.killpg(0, int(number))


def refuse(number: float) -> None:
    """Let the system call that is about to be made fail."""
    raise OSError(int(number), os.strerror(int(number)))


def set_back(seconds: float) -> None:
    """Set the clock back, as far as Python sees it."""
    true_time = time.time
    time.time = lambda: true_time() - seconds


def supervise(connection: socket.socket) -> bool:
    """Start a program and report its end; returns True in the program itself."""
    request = json.loads(connection.makefile().readline())
    program = os.fork()
    if program == 0:
        connection.close()
        os.setsid()
        become_program(request)
        return True
    connection.sendall(f"{program}\n".encode())
    _, status, usage = os.wait4(program, 0)
    code = os.waitstatus_to_exitcode(status)
    connection.sendall(f"{json.dumps([code, usage.ru_maxrss])}\n".encode())
    return False


def serve(listener: socket.socket) -> bool:
    """Answer requests until standard input is closed; returns True in a program."""
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in ready:
            return False
        connection, _ = listener.accept()
        with connection:
            if os.fork() == 0:
                listener.close()
                # The supervisor, and its program after it, wait for children of their own.
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                if supervise(connection):
                    return True
                os._exit(0)


def end(code: int) -> NoReturn:
    """End a program as Python would, but leave its memory, which takes seconds to free."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main() -> None:
    """Import, listen, and run the command line in every program."""
    for name in IMPORTED:
        importlib.import_module(name)
    # As the command has it until it handles Ctrl-C, and after that.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Supervisors are reaped by the system.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(sys.argv[1])
    listener.listen()
    # Collecting garbage would copy every page of what is imported into every program.
    gc.freeze()
    print("ready", flush=True)
    if serve(listener):
        end(importlib.import_module("aalbert.__main__").main())


if __name__ == "__main__":
    main()
