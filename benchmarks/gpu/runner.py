"""Runs stages one after another, each in a process of its own with its share of the time.

Nothing that a stage does ends the others: an exception, a signal, memory that runs out, a hang.
Packages take about as long to import as some stages take, so the process of the next stage is
started beside a running one; it imports, and waits for its context. Only the standard library is
used, so that packages can be installed first.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
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
    """A stage of the module `module`, which gets `weight` of the time in relation to the others.

    Without a GPU that is its `rehearsal_weight`.
    """

    name: str
    module: str
    weight: float
    rehearsal_weight: float


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
    started: list[subprocess.Popen[str]] = []
    try:
        for number, stage in enumerate(stages):
            left_s = ends - time.time()
            line: dict[str, Any] = {"stage": stage.name, "kind": "stage"}
            if left_s < LEAST_REST_S:
                error: str | None = "left out: no time is left"
            else:
                coming = stages[number + len(started) : number + 2]
                started += [start_stage(each, environment) for each in coming]
                weights = [
                    each.rehearsal_weight if context.rehearsal else each.weight
                    for each in stages[number:]
                ]
                budget_s = share_s(left_s, weights)
                print(f"== {stage.name}: {budget_s:.0f} s of {left_s:.0f} s", flush=True)
                begun = time.time()
                own = replace(context, stage=stage.name, ends=begun + budget_s)
                error = finish_stage(started.pop(0), own)
                line |= {"seconds": round(time.time() - begun, 1), "budget_s": round(budget_s, 1)}
            if error:
                failed.append(stage.name)
            append_line(context.results, {**line, "done": error is None, "error": error})
    finally:
        for process in started:
            with process:
                end_group(process)
    return failed


def start_stage(stage: Stage, environment: Mapping[str, str]) -> "subprocess.Popen[str]":
    """Start a stage in a process group of its own, which imports and waits for its context."""
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "benchmarks.gpu.stage", stage.module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=dict(environment),
        start_new_session=True,
    )


def finish_stage(process: "subprocess.Popen[str]", context: Context) -> str | None:
    """Give a started stage its context and wait for its end; return why it failed, or None."""
    assert process.stdin is not None
    assert process.stdout is not None
    last: deque[str] = deque(maxlen=ERROR_LINES)
    copier = threading.Thread(
        target=copy_lines, args=(process.stdout, Path(context.out) / LOG_NAME, last.append)
    )
    overran = False
    with process:
        copier.start()
        try:
            # One that could not be imported has ended, and its output says why.
            with suppress(BrokenPipeError), process.stdin as stream:
                stream.write(context.to_json())
            process.wait(max(0.0, context.left_s))
        except subprocess.TimeoutExpired:
            overran = True
        finally:
            end_group(process)
            copier.join()
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
