"""Runs of two processes that communicate over gloo, started as `torchrun` starts them."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from aalbert.train.run_folder import RunFolder

LIMIT_S = 240

# Imports once, and forks the ranks, each with the variables that `torchrun` sets.
PROGRAM = """
import json, os, sys
import aalbert.train.downstream.run, aalbert.train.pretraining.run
from aalbert.cli import main

folder, port, size, settings, *arguments = sys.argv[1:]
pids = []
for rank in range(int(size)):
    pid = os.fork()
    if pid == 0:
        os.dup2(os.open(f"{folder}/rank-{rank}.err", os.O_WRONLY | os.O_CREAT), 2)
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": size,
                       "LOCAL_WORLD_SIZE": size, "GROUP_RANK": "0", "MASTER_ADDR": "127.0.0.1",
                       "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "test"}
        os.environ |= json.loads(settings).get(str(rank), {})
        os._exit(main(arguments))
    pids.append(pid)
print(json.dumps(pids), flush=True)
print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]))
"""


class Started:
    """The two ranks of one command, whose `settings` are environment variables by rank."""

    def __init__(
        self, folder: Path, arguments: list[str], settings: dict[str, dict[str, str]] | None = None
    ) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(folder), str(port), "2", json.dumps(settings or {})]
            + arguments,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.pids: list[int] = json.loads(self.process.stdout.readline())

    def finish(self) -> list[tuple[int, str]]:
        """Wait for all ranks and return exit code and stderr of each."""
        try:
            output = self.process.communicate(timeout=LIMIT_S)[0]
        except subprocess.TimeoutExpired:
            for pid in self.pids:
                os.kill(pid, signal.SIGKILL)
            self.process.communicate()
            raise
        codes = json.loads(output.splitlines()[-1])
        errors = [(self.folder / f"rank-{rank}.err").read_text() for rank in range(len(codes))]
        return list(zip(codes, errors, strict=True))


def wait_for_metrics(run: Path) -> None:
    """Wait until training has begun."""
    deadline = time.monotonic() + LIMIT_S / 2
    while not (run / "metrics.jsonl").is_file() or not RunFolder(run).read_metrics():
        assert time.monotonic() < deadline, "the run has not begun"
        time.sleep(0.05)
