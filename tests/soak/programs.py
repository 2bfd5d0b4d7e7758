"""Programs `aalbert` that are disturbed while they run, and what is left of them."""

import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from aalbert.cli import main

NURSERY = Path(__file__).with_name("nursery.py")
# A program that takes longer hangs.
MOST_SECONDS = 120.0
# What a program started may end a little later than itself.
GRACE_SECONDS = 5.0
NEVER = ("Traceback (most recent call last)", "Exception ignored in", "Fatal Python error")


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A program that has ended: its exit code (negative, a signal), its output, memory at peak."""

    code: int
    stdout: str
    stderr: str
    peak_mib: float

    def outcome(self) -> str:
        """`right` for success, else `exit CODE`: then one line, perhaps with details, says why.

        Fails for a traceback, for an error without its line, and for an end by a signal.
        """
        for each in NEVER:
            assert each not in self.stderr, self.stderr[-3000:]
        assert self.code >= 0, f"ended by {signal.Signals(-self.code).name}: {self.stderr[-1000:]}"
        lines = [line for line in self.stderr.splitlines() if line.startswith("aalbert: ")]
        if self.code == 0:
            assert not lines, f"exit 0 with an error: {lines}"
            return "right"
        assert len(lines) == 1, f"exit {self.code} with {len(lines)} lines: {self.stderr[-1000:]}"
        return f"exit {self.code}"


@dataclass(frozen=True, kw_only=True)
class Running:
    """A program that is running, the leader of its own session and process group."""

    pid: int
    connection: socket.socket
    replies: IO[str]
    stdout: Path
    stderr: Path
    started: float = field(default_factory=time.monotonic)

    def send(self, number: int, *, group: bool = False) -> None:
        """Send it a signal, to its group if asked; one that has ended is left alone."""
        # Its number may be that of another process by now.
        if self.has_ended():
            return
        with suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(self.pid, number)

    def children(self) -> list[int]:
        """The processes that it has started and that are running."""
        with suppress(FileNotFoundError):
            text = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
            return [int(each) for each in text.split()]
        return []

    def has_ended(self, within_seconds: float = 0.0) -> bool:
        """Whether it ends in time."""
        self.connection.settimeout(max(within_seconds, 1e-3))
        with suppress(TimeoutError):
            return self.connection.recv(1, socket.MSG_PEEK) is not None
        return False

    def is_stopped(self) -> bool:
        """Whether a signal has stopped it, until SIGCONT."""
        with suppress(FileNotFoundError):
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
        return False

    def wait(self, most_seconds: float = MOST_SECONDS) -> Ended:
        """Wait for its end; fail when it hangs, or when processes of it stay behind."""
        in_time = self.has_ended(most_seconds)
        if not in_time:
            self.send(signal.SIGKILL, group=True)
        self.connection.settimeout(None)
        code, peak_kib = json.loads(self.replies.readline())
        self.connection.close()
        assert in_time, f"hangs for {most_seconds} s: {self.stderr.read_text()[-2000:]}"
        self.end_group()
        return Ended(
            code=code,
            stdout=self.stdout.read_text("utf-8", "replace"),
            stderr=self.stderr.read_text("utf-8", "replace"),
            peak_mib=peak_kib / 1024,
        )

    def end_group(self) -> None:
        """Fail when processes of its group outlive it by more than a moment."""
        end = time.monotonic() + GRACE_SECONDS
        while exists(self.pid):
            if time.monotonic() > end:
                os.killpg(self.pid, signal.SIGKILL)
                raise AssertionError(f"processes it started stay for {GRACE_SECONDS} s")
            time.sleep(0.01)


def run_here(*arguments: object, most_seconds: float = MOST_SECONDS) -> Ended:
    """Run `aalbert ARGUMENTS` in this process: ten times as fast, where nothing can crash it.

    Fails when it takes too long.
    """
    stdout, stderr = io.StringIO(), io.StringIO()
    began = time.monotonic()
    with redirect_stdout(stdout), redirect_stderr(stderr):
        code = main([str(each) for each in arguments])
    seconds = time.monotonic() - began
    assert seconds < most_seconds, f"takes {seconds:.1f} s"
    return Ended(code=code, stdout=stdout.getvalue(), stderr=stderr.getvalue(), peak_mib=0.0)


def exists(group: int) -> bool:
    """Whether a process group has members."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@dataclass
class Programs:
    """Starts programs from the nursery; `folder` takes their output."""

    folder: Path
    number: int = 0

    @staticmethod
    @contextmanager
    def start(folder: Path) -> Iterator["Programs"]:
        """Start the nursery, which ends with the block."""
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        nursery = subprocess.Popen(
            [sys.executable, str(NURSERY), str(folder / "socket")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
        assert nursery.stdin and nursery.stdout
        with nursery.stdout:
            assert nursery.stdout.readline() == b"ready\n"
            try:
                yield Programs(folder)
            finally:
                nursery.stdin.close()
                nursery.wait()

    def begin(
        self,
        *arguments: object,
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
        limits: Mapping[str, int] | None = None,
        aim: Mapping[str, Any] | None = None,
        trace: Path | None = None,
        setup: str = "",
        shared_memory_bytes: int | None = None,
    ) -> Running:
        """Start `aalbert ARGUMENTS` in a folder.

        `limits` are those of `setrlimit` by name (`FSIZE`, `NOFILE`, `AS`, `CPU`); for `aim` see
        `nursery.aim`, for `trace` `nursery.trace`. `setup` are statements that are run in it first.
        `shared_memory_bytes` is the size of a `/dev/shm` of its own.
        """
        self.number += 1
        stdout, stderr = (self.folder / f"{self.number}.{name}" for name in ("out", "err"))
        # Here, since a signal may end the program before it has opened them.
        for path in (stdout, stderr):
            path.touch()
        request = {
            "arguments": [str(each) for each in arguments],
            "folder": str(folder or self.folder),
            "environment": dict(environment or {}),
            "limits": dict(limits or {}),
            "aim": dict(aim) if aim else None,
            "trace": str(trace) if trace else None,
            "setup": setup,
            "shared_memory_bytes": shared_memory_bytes,
            "stdout": str(stdout),
            "stderr": str(stderr),
        }
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(self.folder / "socket"))
        connection.sendall(f"{json.dumps(request)}\n".encode())
        replies = connection.makefile()
        pid = int(replies.readline())
        return Running(
            pid=pid, connection=connection, replies=replies, stdout=stdout, stderr=stderr
        )

    def run(self, *arguments: object, **how: Any) -> Ended:
        """Start a program and wait for its end."""
        return self.begin(*arguments, **how).wait()
