"""What a program writes to a terminal."""

import os
import subprocess
import sys

SCRIPT = """
import fcntl, os, pty, struct, sys, termios
pid, terminal = pty.fork()
if pid == 0:
    fcntl.ioctl(2, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
written = b""
while True:
    try:
        part = os.read(terminal, 65536)
    except OSError:
        break
    if not part:
        break
    written += part
os.waitpid(pid, 0)
sys.stdout.buffer.write(written)
"""


def on_a_terminal(*arguments: str, **environment: str) -> str:
    """Return what Python with these arguments writes to a terminal of 100 columns."""
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "TERM": "xterm", **environment},
    )
    return ran.stdout
