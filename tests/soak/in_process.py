"""Commands in this process, where nothing can crash it."""

import io
import time
from contextlib import redirect_stderr, redirect_stdout

from aalbert.cli import main
from tests.soak.programs import Ended


def run(*arguments: object, most_seconds: float) -> Ended:
    """Run `aalbert ARGUMENTS`; fail when it takes too long."""
    stdout, stderr = io.StringIO(), io.StringIO()
    started = time.monotonic()
    with redirect_stdout(stdout), redirect_stderr(stderr):
        code = main([str(each) for each in arguments])
    seconds = time.monotonic() - started
    assert seconds < most_seconds, f"takes {seconds:.1f} s"
    return Ended(code=code, stdout=stdout.getvalue(), stderr=stderr.getvalue(), peak_mib=0.0)
