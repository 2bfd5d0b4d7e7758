"""Runs stages one after another, each in a process of its own with its share of the time.

Nothing that a stage does ends the others: an exception, a signal, memory that runs out, a hang.
Only the standard library is used, so that packages can be installed first.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from benchmarks.gpu.context import Context, append_line

LOG_NAME = "log.txt"
# A stage gets at least so much, if there is as much left; a shorter rest is not worth a start.
LEAST_S, LEAST_REST_S = 20.0, 5.0
GRACE_S = 3.0
# Lines of output that are kept in the results when a stage fails; the log has all of them.
ERROR_LINES = 30


@dataclass(frozen=True)
class Stage:
    """A stage of the module `module`, which gets `weight` of the time in relation to the others."""

    name: str
    module: str
    weight: float


def share_s(left_s: float, weights: Sequence[float]) -> float:
    """Return the seconds of the first of the remaining stages; what it leaves, the others get."""
    return min(left_s, max(LEAST_S, left_s * weights[0] / sum(weights)))


def run_stages(
    stages: Sequence[Stage], context: Context, environment: Mapping[str, str], ends: float
) -> list[str]:
    """Run the stages until `time.time()` is `ends`; return the names of those that failed.

    Each ends with a line of the kind `stage`: whether it was done, its seconds, and its error.
    """
    failed = []
    for number, stage in enumerate(stages):
        left_s = ends - time.time()
        line: dict[str, Any] = {"stage": stage.name, "kind": "stage"}
        if left_s < LEAST_REST_S:
            error: str | None = "left out: no time is left"
        else:
            budget_s = share_s(left_s, [each.weight for each in stages[number:]])
            started = time.time()
            print(f"== {stage.name}: {budget_s:.0f} s of {left_s:.0f} s", flush=True)
            error = run_stage(
                stage, replace(context, stage=stage.name, ends=started + budget_s), environment
            )
            line |= {"seconds": round(time.time() - started, 1), "budget_s": round(budget_s, 1)}
        if error:
            failed.append(stage.name)
        append_line(context.results, {**line, "done": error is None, "error": error})
    return failed


def run_stage(stage: Stage, context: Context, environment: Mapping[str, str]) -> str | None:
    """Run one stage in a process group of its own; return why it failed, or None."""
    command = [sys.executable, "-P", "-m", "benchmarks.gpu.stage", stage.module, context.to_json()]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        errors="replace",
        env=dict(environment),
        start_new_session=True,
    )
    assert process.stdout is not None
    last: deque[str] = deque(maxlen=ERROR_LINES)
    copier = threading.Thread(
        target=copy_lines, args=(process.stdout, Path(context.out) / LOG_NAME, last.append)
    )
    copier.start()
    overran = False
    try:
        process.wait(max(0.0, context.left_s))
    except subprocess.TimeoutExpired:
        overran = True
    finally:
        end_group(process)
        copier.join()
        process.stdout.close()
    output = "".join(last).strip()
    if overran:
        return f"ended because its time was up; the last it printed:\n{output}"
    if process.returncode < 0:
        name = signal.Signals(-process.returncode).name
        return f"ended by {name}; the last it printed:\n{output}"
    return output if process.returncode else None


def copy_lines(source: IO[str], log: Path, keep: Callable[[str], None]) -> None:
    """Copy lines to the log and to our own output as they come, and keep the last ones."""
    with log.open("a", encoding="utf-8") as stream:
        for line in source:
            stream.write(line)
            stream.flush()
            print(line, end="", flush=True)
            keep(line)


def end_group(process: "subprocess.Popen[str]") -> None:
    """End a process and everything that it started: politely, then by force."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            continue
    process.wait()
